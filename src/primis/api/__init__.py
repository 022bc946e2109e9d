"""The library's front door: what `import primis` offers, in few names that take what people have.

    primis.share(["xrays"], "release", to=["partner.key.pub"])

    with primis.open("release", identity="partner.key") as release:
        for image in release:
            image.read("diagnostic").pixels

    bundle, key = primis.encode(array)
    primis.decode(bundle, key)

Places are paths or texts. Keys are what the command line takes: a public key as text or in a file
to share with, a file of private keys to open with. What goes wrong is a `PrimisError`.
"""
