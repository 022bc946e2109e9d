"""Classification of restored images: the paper's Table 2, Fig.

7, Supp. Tables 1 to 3, Supp. Figs. 2 to 9.
"""
