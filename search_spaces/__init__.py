"""The grammar of a search space, the searches, the recipes. All is plain data. No other room is imported here."""

from search_spaces.grammar import Branch, Float, Int, Maybe, Pick
from search_spaces.recipes import recipe
from search_spaces.search import Search

__all__ = ["Branch", "Float", "Int", "Maybe", "Pick", "Search", "recipe"]
