"""Where releases lie: a folder, a web host, a bucket. Knows no key, no codec and no format."""
