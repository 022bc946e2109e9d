/**
 * What the engine offers to a user interface: a release that is open, its images, and what a key
 * opens of each. Everything that arrives here has been verified (docs/format.md); whatever does not
 * verify is an error of `errors.ts`.
 */

/** What a grant opens; each tier opens those before it. */
export const TIERS = ["preview", "diagnostic", "original"] as const;
export type Tier = (typeof TIERS)[number];

/** Kinds of file that were shared, in the order of section `info`. */
export const KINDS = [
  "png",
  "jpeg",
  "webp",
  "tiff",
  "dicom",
  "nifti",
  "nifti-gz",
  "dicom-series",
] as const;
export type Kind = (typeof KINDS)[number];

/** In the order of section `info`. MONOCHROME1: the lowest sample is white. */
export const PHOTOMETRIC = ["MONOCHROME1", "MONOCHROME2", "RGB", "LA", "RGBA", "CHANNELS"] as const;
export type Photometric = (typeof PHOTOMETRIC)[number];

export const SAMPLE_TYPES = ["uint8", "uint16", "int8", "int16"] as const;
export type SampleType = (typeof SAMPLE_TYPES)[number];
export type Samples = Uint8Array | Uint16Array | Int8Array | Int16Array;

/** Bytes from `start` up to and without `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * Where a release lies. Implemented by `places.ts` for HTTP(S), in tests by folders and memory.
 * Nothing that it gives is trusted.
 */
export interface Place {
  /** The address, for messages. */
  readonly name: string;
  /** A whole file. Throws NotThere, HostError, and StoreError for one of more than `most` bytes. */
  read(key: string, most: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Parts of a file of `size` bytes, in order; null where the host gives whole files alone. */
  ranges(
    key: string,
    spans: readonly Span[],
    size: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array[] | null>;
}

/** Where the files lie that ship with the viewer: kernel, weights, graphs. */
export interface Assets {
  /** The coder's kernel, `kernel.wasm`. */
  kernel(): Promise<Uint8Array>;
  /** The weights of a digest (64 hex digits). Throws ModelError where they are not there. */
  weights(digest: string): Promise<Uint8Array>;
  /** A decoder's graph, of architecture `lapped` or `grouped`. */
  graph(architecture: string): Promise<Uint8Array>;
  /** ONNX Runtime's own WebAssembly file. */
  runtime(): Promise<Uint8Array>;
}

/** What a grant opens, as far as a person wants to know. */
export interface GrantInfo {
  readonly label: string;
  readonly tier: Tier;
  readonly note: string | null;
  /** The last day, `2024-01-31`, or null. */
  readonly notAfter: string | null;
  readonly expired: boolean;
  /** The whole release, or named images and regions of images. */
  readonly scope: "release" | "images";
  /** How many images, and how many regions, where the scope is not the whole release. */
  readonly images: number;
  readonly regions: number;
}

/** A part of an image: pixels and frames from 0, the last frame included. */
export interface Region {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly first: number;
  readonly last: number;
}

/**
 * An image that a key opens. What the sealed catalogue lists of it is null where the key does not
 * open the catalogue, for which it needs tier diagnostic of the whole release.
 */
export interface ImageEntry {
  readonly id: string;
  /** The path that it was shared under. */
  readonly name: string | null;
  /** The highest tier that the grants open. */
  readonly tier: Tier;
  /** The part that is opened, null for all of it. */
  readonly region: Region | null;
  readonly listed: Listed | null;
}

/** What the sealed catalogue says about an image. */
export interface Listed {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Between rows and between columns, in mm. */
  readonly spacing: readonly [number, number] | null;
  /** Of DICOM, else empty; UIDs of the object that is restored at tier diagnostic. */
  readonly modality: string;
  readonly study: string;
  readonly series: string;
  readonly instance: string;
  /** What the owner's table says of it, by column. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface Release {
  /** The address it was opened at. */
  readonly place: string;
  /** Ed25519 public key of the owner, 64 hex digits. */
  readonly signer: string;
  /** Lives as long as the release does, 32 hex digits. */
  readonly id: string;
  readonly version: number;
  /** SHA-256 of the manifest's JSON: with id, signer and version what a reader remembers. */
  readonly digest: string;
  /** UTC. */
  readonly created: string;
  /** How many images there are, opened or not. */
  readonly count: number;
  /** Those that opened, the highest tier and widest scope first. */
  readonly grants: readonly GrantInfo[];
  /** What a person should hear, each thing once: grants passed over, a host without ranges. */
  readonly notes: readonly string[];
  /** The images that the grants open, page by page: the first page is there at once. */
  pages(): AsyncIterable<readonly ImageEntry[]>;
  /** All of them. */
  images(): Promise<ImageEntry[]>;
  /** One image, by its id. Throws NotCovered. */
  open(id: string, signal?: AbortSignal): Promise<OpenedImage>;
  /** Load what decodes its images, so that the first does not wait for it. Throws ModelError. */
  prepare(): Promise<void>;
  /** What a reader should remember of it, and pass as `known` the next time. */
  remembered(): RememberedRelease;
}

/**
 * What a reader remembers of a release (docs/format.md, section 3): where to keep it is the
 * interface's choice.
 */
export interface RememberedRelease {
  readonly place: string;
  readonly release: string;
  readonly signer: string;
  readonly version: number;
  readonly digest: string;
}

/** How near tier diagnostic is to the source, as the owner measured it. psnr: dB, null: equal. */
export interface Quality {
  readonly psnr: number | null;
  readonly ssim: number;
}

/** A window of grey levels, in units after rescaling (DICOM PS3.3, C.11.2). */
export interface WindowPreset {
  readonly center: number;
  readonly width: number;
  readonly name: string;
}

/** What the header of a DICOM file says of how its samples are shown. */
export interface Display {
  readonly windows: readonly WindowPreset[];
  readonly slope: number;
  readonly intercept: number;
  /** Units of what rescaling gives, such as HU; empty where unknown. */
  readonly units: string;
}

/** Samples of some frames: frame by frame, row by row, channels of a pixel together. */
export interface Pixels {
  readonly data: Samples;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

export interface ReadOptions {
  /** Decode these frames alone, counted from 0 in the image; ascending. */
  readonly frames?: readonly number[];
  /** Add noise like the texture that was lost: for measuring texture, never for reading images. */
  readonly texture?: boolean;
  /** Is told what share of the work is done, from 0 to 1. */
  readonly onProgress?: (share: number) => void;
  readonly signal?: AbortSignal;
}

export interface RestoredFile {
  /** As the owner sealed it: a path; the image's id where the name is not opened. */
  readonly name: string;
  /** Media type. */
  readonly type: string;
  readonly bytes: Uint8Array;
}

/** An image whose secrets are at hand. */
export interface OpenedImage {
  readonly id: string;
  readonly name: string | null;
  readonly kind: Kind;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Between rows and between columns, in mm. */
  readonly spacing: readonly [number, number] | null;
  readonly sampleType: SampleType;
  /** Bits of a sample that are used. */
  readonly bitDepth: number;
  readonly photometric: Photometric;
  /** Tiers that the key opens and the bundle holds, from the lowest. */
  readonly tiers: readonly Tier[];
  /** The part that is opened, null for all of it; then `read` gives that part alone. */
  readonly region: Region | null;
  readonly quality: Quality | null;
  readonly protection: "keyed" | "sca";
  /** S_x, true entries per position on average; decoys: S_n. */
  readonly sparsity: number;
  readonly decoys: number;
  /** Digest of the weights that decode it, 64 hex digits. */
  readonly model: string;
  /** Whether tier diagnostic is the source sample by sample. */
  readonly exact: boolean;
  /** How many frames are coded together. */
  readonly group: number;
  /** Whether `texture` can be asked for. */
  readonly hasTexture: boolean;
  /** Of DICOM at tier diagnostic, else null. */
  readonly display: Display | null;
  /** Samples at tier preview or diagnostic. Throws TierTooLow, NoTexture, DamagedSection. */
  read(tier: Tier, options?: ReadOptions): Promise<Pixels>;
  /**
   * Files to keep: at tier original the very file or files, byte for byte; below, files of the
   * source's kind, or PNG where the viewer cannot write that kind (`RestoredFile.type` says).
   */
  files(tier: Tier, options?: ReadOptions): Promise<RestoredFile[]>;
}
