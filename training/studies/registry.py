"""The studies by name. Importing them loads neither torch nor scikit-learn."""

from typing import Final

from training.errors import RecipeError
from training.studies import bottleneck, feed, flickrlogos32, grades, openimages
from training.studies.study import Study

#: In the order of their rows in docs/studies/rows.md.
STUDIES: Final[dict[str, Study]] = {
    package.STUDY.name: package.STUDY for package in (grades, flickrlogos32, bottleneck, openimages, feed)
}


def study_of(name: str) -> Study:
    """The study of a name.

    Raises:
        RecipeError: Unknown study.
    """
    if name not in STUDIES:
        raise RecipeError(f"unknown study {name}; there are {', '.join(STUDIES)}")
    return STUDIES[name]
