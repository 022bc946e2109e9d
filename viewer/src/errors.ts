/**
 * Every error that the reader raises on purpose: the classes of src/primis/errors.py that a reader
 * can meet, under the same names.
 *
 * A message is one line: the thing, the value in quotes, what was expected. It never holds a
 * secret, a patient's data or a pixel.
 */

/** Base of all errors that are raised on purpose. */
export class PrimisError extends Error {}

/** What was asked for makes no sense. */
export class UsageError extends PrimisError {}
/** A file given to the viewer cannot be used. */
export class InputError extends PrimisError {}
/** Not a key of a kind that the viewer knows. */
export class BadKey extends InputError {}
/** A file is sealed to a passphrase, and not to the one that was offered. */
export class WrongPassphrase extends BadKey {}
/** An image has more samples than are read at most. */
export class TooManyPixels extends InputError {}

/** A file cannot be read where a release lies. what: its address; why: for people. */
export class StoreError extends PrimisError {
  constructor(
    readonly what: string,
    readonly why: string,
  ) {
    super(`"${what}": ${why}`);
  }
}
/** There is no such file. */
export class NotThere extends StoreError {}
/** The host does not answer or refuses: the next file would fail as well. */
export class HostError extends StoreError {}

/** A release is not what docs/format.md says. */
export class FormatError extends PrimisError {}
/** manifest.json or a page is malformed, or its signature does not verify. */
export class BadManifest extends FormatError {}
/** A bundle's layout is malformed or it is not the bundle that the manifest lists. */
export class BadBundle extends FormatError {}
/** A section of a bundle does not verify or decode. */
export class DamagedSection extends FormatError {}
/** A grant is malformed, altered or belongs to another release. */
export class BadGrant extends FormatError {}

/** The release is sound, but not what was asked for with this key. */
export class AccessError extends PrimisError {}
/** No grant of the release is for any key that was offered. */
export class NoMatchingGrant extends AccessError {}
/** The release has a grant for a passphrase, but not for the one that was offered. */
export class OtherPassphrase extends NoMatchingGrant {}
/** The grant's last day has passed. */
export class GrantExpired extends AccessError {}
/** The grant opens a lower tier than the one asked for. */
export class TierTooLow extends AccessError {}
/** The grant does not cover this image. */
export class NotCovered extends AccessError {}
/** Texture was asked for, and not measured when the image was shared. */
export class NoTexture extends AccessError {}
/** The release is signed, but not by the signer that was demanded. */
export class WrongSigner extends AccessError {}
/** Another signer, an older state or a fork of what was seen of this release before. */
export class UnexpectedRelease extends AccessError {}

/** Weights are missing, damaged or not the ones that a bundle names. */
export class ModelError extends PrimisError {}

const ALL = {
  PrimisError,
  UsageError,
  InputError,
  BadKey,
  WrongPassphrase,
  TooManyPixels,
  StoreError,
  NotThere,
  HostError,
  FormatError,
  BadManifest,
  BadBundle,
  DamagedSection,
  BadGrant,
  AccessError,
  NoMatchingGrant,
  OtherPassphrase,
  GrantExpired,
  TierTooLow,
  NotCovered,
  NoTexture,
  WrongSigner,
  UnexpectedRelease,
  ModelError,
};
export type ErrorName = keyof typeof ALL;

// A minified build gives classes other names; these are what people and the worker go by.
for (const [name, kind] of Object.entries(ALL)) {
  Object.defineProperty(kind.prototype, "name", { value: name });
}
