"""Access to the files of a round: start model, episodes, prompts, knowledge, summary."""
