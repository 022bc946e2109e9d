"""Fidelity of restored images: the paper's Table 1, Figs. 5 and 6, Supp. Fig. 1."""
