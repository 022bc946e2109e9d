"""Attacks on what is shared: the paper's Table 4 and Fig. 10, and the rest of the suite."""
