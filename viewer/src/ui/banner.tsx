/** Below each image: its tier, how faithful it is, what it is not for, and which grant opens it. */
import type { GrantInfo, ImageEntry } from "../release/types.ts";
import type { ShownImage } from "./engine.ts";
import { Icon } from "./icons.tsx";
import { useObservable } from "./observable.ts";
import type { Pane } from "./pane.ts";
import {
  expiryText,
  figure,
  MOST_NOTE,
  qualityText,
  shortDigest,
  legible,
  tierWords,
} from "./words.ts";

interface BannerProps {
  readonly pane: Pane;
  readonly grants: readonly GrantInfo[];
}

export function Banner({ pane, grants }: BannerProps) {
  useObservable(pane);
  const { image } = pane;
  if (!image) return null;
  const grant = grantFor(pane.entry, grants);
  return (
    <footer class="banner">
      <p>
        <strong class="caution">Not for diagnosis unless the owner says so.</strong>{" "}
        {fidelityText(image, pane.shown?.tier ?? pane.tier)}
      </p>
      <p class="banner-facts">
        <span>S_x {figure(image.sparsity, 2)}</span>
        <span>
          model <code title={image.model}>{shortDigest(image.model)}</code>
        </span>
        {grant && <span>{grantLine(grant)}</span>}
        {image.region && <span>part of the image: your key opens no more of it</span>}
      </p>
      {image.protection === "sca" && (
        <p class="leak">
          <Icon name="warning" />
          Level sca leaks: much of this image can be recovered without a key.
        </p>
      )}
    </footer>
  );
}

function fidelityText(image: ShownImage, tier: Pane["tier"]): string {
  const told = qualityText(image.quality, image.exact);
  const measured = image.region ? "a grant of a region does not tell its fidelity" : told;
  if (tier === "diagnostic") return `Tier diagnostic: ${measured}.`;
  const hasMore = image.tiers.includes("diagnostic");
  const better = hasMore ? ` Tier diagnostic: ${measured}.` : "";
  return `${tierWords.preview}: a coarse image.${better}`;
}

/** The grants come widest first: the first that reaches the tier is the one that opens it. */
function grantFor(entry: ImageEntry, grants: readonly GrantInfo[]): GrantInfo | null {
  return grants.find(({ tier, expired }) => tier === entry.tier && !expired) ?? grants[0] ?? null;
}

function grantLine(grant: GrantInfo): string {
  const note = grant.note ? ` \u201c${legible(grant.note, MOST_NOTE)}\u201d` : "";
  return `grant to ${grant.label}${note}, tier ${grant.tier}, ${expiryText(grant)}`;
}
