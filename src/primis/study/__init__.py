"""The paper's study: a folder per part, with its measurement and its report."""
