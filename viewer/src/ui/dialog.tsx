/** The browser's own dialog element: it keeps the focus, and Escape closes it. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { GrantInfo } from "../release/types.ts";
import { Icon } from "./icons.tsx";
import { KEYS } from "./keyboard.ts";
import type { Session } from "./session.ts";
import { counted, expiryText, grantText, grouped, legible, MOST_NOTE } from "./words.ts";

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

export function Dialog({ title, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  const onBackdrop = (event: MouseEvent) => {
    if (event.target === dialog.current) onClose();
  };
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={onClose} onClick={onBackdrop}>
      <header class="dialog-head">
        <h2 id="dialog-title">{title}</h2>
        <button type="button" class="tool" onClick={onClose}>
          <Icon name="close" />
          <span class="unseen">Close</span>
        </button>
      </header>
      {children}
    </dialog>
  );
}

export function KeysDialog({ onClose }: { readonly onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts, while an image has the focus" onClose={onClose}>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>{keys}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="quiet">
        Mouse: left button for the chosen tool, middle to pan, right to zoom, wheel for frames (with
        Ctrl: zoom), double click to reset. Touch: one finger for the chosen tool, two to zoom and
        pan.
      </p>
    </Dialog>
  );
}

interface ReleaseDialogProps {
  readonly session: Session;
  readonly onClose: () => void;
}

export function ReleaseDialog({ session, onClose }: ReleaseDialogProps) {
  const { release, recognised } = session.opened!;
  return (
    <Dialog title="Release" onClose={onClose}>
      <dl class="facts-table">
        <dt>Location</dt>
        <dd>{session.config!.place}</dd>
        <dt>Signed by</dt>
        <dd>
          <code class="hex">{grouped(release.signer)}</code>
          <span class="quiet">{seenText(recognised, session.config!.signer !== null)}</span>
        </dd>
        <dt>Id</dt>
        <dd>
          <code class="hex">{release.id}</code>
        </dd>
        <dt>State</dt>
        <dd>
          version {release.version} of {release.created}, {counted(release.count, "image")}
        </dd>
        <dt>{release.grants.length > 1 ? "Your grants" : "Your grant"}</dt>
        <dd>
          <ul>
            {release.grants.map((grant) => (
              <li key={grant.label + grant.tier}>{grantDetails(grant)}</li>
            ))}
          </ul>
        </dd>
      </dl>
      <p class="quiet">
        The key stays in this page: it is not stored, and is gone once you close the page. Your
        browser remembers only the signer and the state, so that a change is noticed.
      </p>
    </Dialog>
  );
}

function grantDetails(grant: GrantInfo): string {
  const note = grant.note ? `, \u201c${legible(grant.note, MOST_NOTE)}\u201d` : "";
  const expired = grant.expired ? " (expired)" : "";
  return `${grant.label}: ${grantText(grant)}, ${expiryText(grant)}${expired}${note}`;
}

export function seenText(
  { first, replaced, forgotten }: NonNullable<Session["opened"]>["recognised"],
  demanded: boolean,
): string {
  if (demanded && !replaced) return "This is the expected signer.";
  if (forgotten && !demanded)
    return "This browser lets the page remember nothing: compare the signer yourself.";
  if (replaced) return `On ${replaced} this address had another release by the same signer.`;
  return first ? "Seen for the first time; the signer is now remembered." : "The signer is known.";
}
