"""Many images to one release.

run     the whole of it, in one call or by shards
look    a pass over the files, which decides the budgets
batch   each image to a bundle, with the journal
task    one image: what a worker gets, and does
quality the S_x that a wanted PSNR takes
begun   whose release is in the making
"""
