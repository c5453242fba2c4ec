"""A dataset while somebody works on it: kept in memory, listed, filtered, changed with previews."""
