/**
 * A release that is not there: synthetic images behind the interface of the engine, for the tests
 * of the page. What goes wrong is named in the release's address.
 */
import {
  DamagedSection,
  GrantExpired,
  HostError,
  ModelError,
  NoMatchingGrant,
  OtherPassphrase,
  WrongPassphrase,
} from "../../src/errors.ts";
import type {
  GrantInfo,
  ImageEntry,
  Listed,
  OpenedImage,
  ReadOptions,
  Release,
  RestoredFile,
  Tier,
} from "../../src/release/types.ts";
import type { OpenFunction } from "../../src/ui/serve.ts";
import { phantom, type Shape } from "./phantom.ts";

export const GOOD_KEY = "AGE-SECRET-KEY-1FAKE";
const SIGNER = "80460f9cef1fb6b9a3d27c5582c04f21b7f4d0aa6e1b0d6ec23e1c6bd9f3a144";
const OTHER = "11".repeat(32);
const COUNT = 3000;
const hex = (number: number) => number.toString(16).padStart(32, "0");
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Kind {
  readonly modality: string;
  readonly shape: Shape;
  readonly facts: Partial<OpenedImage>;
}

const KINDS: readonly Kind[] = [
  {
    modality: "DX",
    shape: "chest",
    facts: {
      kind: "dicom",
      height: 640,
      width: 560,
      sampleType: "uint16",
      bitDepth: 12,
      photometric: "MONOCHROME1",
      spacing: [0.6, 0.6],
      display: { windows: [], slope: 1, intercept: 0, units: "" },
      quality: { psnr: 43.2, ssim: 0.9703 },
    },
  },
  {
    modality: "CT",
    shape: "head",
    facts: {
      kind: "dicom-series",
      frames: 40,
      group: 4,
      height: 256,
      width: 256,
      sampleType: "int16",
      bitDepth: 12,
      spacing: [0.9, 0.9],
      display: {
        windows: [
          { center: 260, width: 700, name: "BRAIN" },
          { center: 600, width: 2800, name: "BONE" },
          { center: 40, width: 80, name: "" },
        ],
        slope: 1,
        intercept: -1024,
        units: "HU",
      },
      quality: { psnr: 52.8, ssim: 0.9914 },
    },
  },
  {
    modality: "US",
    shape: "chest",
    facts: {
      height: 300,
      width: 400,
      channels: 3,
      sampleType: "uint8",
      bitDepth: 8,
      photometric: "RGB",
      kind: "png",
      quality: null,
    },
  },
];

const kindOf = (index: number): Kind => KINDS[index % KINDS.length]!;

function factsOf(index: number, place: string): Omit<OpenedImage, "read" | "files"> {
  const { facts } = kindOf(index);
  return {
    id: hex(index),
    name: `study/${String(index).padStart(4, "0")}.${facts.kind === "png" ? "png" : "dcm"}`,
    kind: "dicom",
    frames: 1,
    height: 0,
    width: 0,
    channels: 1,
    spacing: null,
    sampleType: "uint8",
    bitDepth: 8,
    photometric: "MONOCHROME2",
    tiers: ["preview", "diagnostic", "original"],
    region: null,
    quality: null,
    protection: place.includes("sca") ? "sca" : "keyed",
    sparsity: 8,
    decoys: 0,
    model: "e6ca2b5e306b4c7fd1a2d1d0cb2a4d8e77a83cf6c1b2a09a5c5b2f3f0e9d8c7b",
    exact: false,
    group: 1,
    hasTexture: true,
    display: null,
    ...facts,
  };
}

function listedOf(index: number, place: string): Listed {
  const { id, name, kind, frames, height, width, channels, spacing } = factsOf(index, place);
  const { modality } = kindOf(index);
  const labels: Record<string, string> =
    index % 2 ? { finding: "no finding" } : { finding: "nodule", site: "left" };
  const shape = { id, name: name!, kind, frames, height, width, channels, spacing };
  return { ...shape, modality, study: "1.2.3", series: "1.2.3.4", instance: "", labels };
}

function imageOf(index: number, place: string): OpenedImage {
  const facts = factsOf(index, place);
  const { shape } = kindOf(index);
  const inverted = facts.photometric === "MONOCHROME1";
  const read = async (tier: Tier, options: ReadOptions = {}) => {
    if (place.includes("damaged") && tier === "diagnostic") {
      throw new DamagedSection(`bundle "${facts.id}": section "support" does not verify`);
    }
    if (place.includes("no-model")) {
      throw new ModelError(`model "${facts.model.slice(0, 12)}" is not beside the viewer`);
    }
    for (let step = 1; step < 5 && tier === "diagnostic"; step++) {
      await pause(place.includes("slow") ? 500 : 15);
      options.onProgress?.(step / 5);
    }
    const frames = options.frames ?? Array.from({ length: facts.frames }, (_, frame) => frame);
    const slices = frames.map((frame) => (frame + 0.5) / facts.frames);
    return phantom(shape, { ...facts, inverted }, slices, tier === "preview" ? 16 : 1);
  };
  return {
    ...facts,
    read,
    files: async (tier) => {
      const { data } = await read(tier === "original" ? "diagnostic" : tier, { frames: [0] });
      const bytes = new Uint8Array(data.buffer as ArrayBuffer);
      const count = facts.frames > 1 ? 3 : 1;
      return Array.from({ length: count }, (_, file): RestoredFile => {
        const name = count > 1 ? `${facts.name}/${file}.dcm` : facts.name!;
        return { name, type: "application/dicom", bytes: bytes.slice() };
      });
    },
  };
}

const GRANT: GrantInfo = {
  label: "partner",
  tier: "original",
  note: "for the nodule study",
  notAfter: "2031-12-31",
  expired: false,
  scope: "release",
  images: 0,
  regions: 0,
};

class FakeRelease implements Release {
  readonly signer: string;
  readonly id = hex(77);
  readonly version: number;
  readonly digest: string;
  readonly created = "2025-11-27T08:00:00Z";
  readonly count = COUNT;
  readonly grants = [GRANT];
  readonly notes: readonly string[];

  constructor(readonly place: string) {
    this.signer = place.includes("other") ? OTHER : SIGNER;
    this.version = place.includes("older") ? 1 : 2;
    this.digest = (place.includes("older") ? "a" : "b").repeat(64);
    this.notes = place.includes("whole")
      ? ["the host sends whole files, not parts: images take longer"]
      : [];
  }

  async *pages() {
    for (let start = 0; start < COUNT; start += 1000) {
      await pause(5);
      yield Array.from({ length: 1000 }, (_, step): ImageEntry => {
        const listed = listedOf(start + step, this.place);
        return { id: listed.id, name: listed.name, tier: "original", region: null, listed };
      });
    }
  }

  async images() {
    const all: ImageEntry[] = [];
    for await (const page of this.pages()) all.push(...page);
    return all;
  }

  open(id: string) {
    return Promise.resolve(imageOf(parseInt(id, 16), this.place));
  }

  prepare() {
    return Promise.resolve();
  }

  remembered() {
    const { place, id, signer, version, digest } = this;
    return { place, release: id, signer, version, digest };
  }
}

export const openFake: OpenFunction = async ({ release, key }) => {
  await pause(50);
  if (release.includes("no-cors")) throw new HostError(release, "it cannot be reached");
  if (release.includes("expired")) throw new GrantExpired('grant "partner" ended on "2024-01-31"');
  if (key.kind === "identity" && !key.text.includes(GOOD_KEY)) {
    throw new NoMatchingGrant('release "release": none of its 2 grants is for "age1fake"');
  }
  if (key.kind === "passphrase" && !["right", "secret-1234", "secret"].includes(key.passphrase)) {
    throw new OtherPassphrase('release "release": its grant for a passphrase does not open');
  }
  if (key.kind === "passphrase" && key.grant === "withdrawn") {
    throw new NoMatchingGrant('release "release" has no grant "withdrawn"');
  }
  if (key.kind === "sealed" && key.passphrase !== "right") {
    throw new WrongPassphrase("the key file does not open with this passphrase");
  }
  return new FakeRelease(release);
};
