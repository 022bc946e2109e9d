"""New secrets for a release.

run     the whole of it, in one call or by shards
table   which bundle becomes which: what is held of each image
seal    every bundle anew, and what was made read back; with the journal
task    some bundles to seal or to read: what a worker gets, and does
renew   the grants
swap    the new state in the old one's place
"""
