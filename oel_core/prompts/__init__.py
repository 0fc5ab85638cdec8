"""Every text a model reads is built in here."""
