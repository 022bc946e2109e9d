"""Segmentation of restored images: the paper's Table 3, Fig. 9 and Supp. Table 4."""
