/** An open release: its list beside the images that are shown. */
import { useEffect, useState } from "preact/hooks";
import type { ImageEntry, Tier } from "../release/types.ts";
import { Banner } from "./banner.tsx";
import { KeysDialog, ReleaseDialog, seenText } from "./dialog.tsx";
import { explain } from "./explain.ts";
import { Icon } from "./icons.tsx";
import { ImageList } from "./list.tsx";
import { canLock, LockDialog } from "./locking.tsx";
import type { Recognised } from "./known.ts";
import { useObservable } from "./observable.ts";
import type { Pane, ShownTier } from "./pane.ts";
import { save } from "./saving.ts";
import type { Opened, Session } from "./session.ts";
import { FrameBar, Stage, useCine } from "./stage.tsx";
import { Toolbar } from "./toolbar.tsx";
import { bytesText, nameOf, shortDigest, legible, splitPath, tierWords } from "./words.ts";

export function Viewing({ session }: { readonly session: Session }) {
  const { release, previews, workspace, recognised } = session.opened!;
  useObservable(workspace);
  const [dialog, setDialog] = useState<"keys" | "release" | "lock" | null>(null);
  const [notesRead, setNotesRead] = useState(0);
  const { panes } = workspace;
  useHeldPreviews(session.opened!);

  const demanded = session.config!.signer !== null;
  const open = (entry: ImageEntry) => {
    workspace.show(entry);
    requestAnimationFrame(() => {
      document.querySelectorAll<HTMLElement>(".stage")[workspace.active]?.focus();
    });
  };
  const notes = [
    ...(isNew(recognised, demanded)
      ? [`Signed by ${shortDigest(release.signer)}. ${seenText(recognised, demanded)}`]
      : []),
    ...release.notes,
  ];
  return (
    <div class="viewing">
      <header class="top">
        <h1>primis</h1>
        <p class="place" title={session.config!.place}>
          {session.config!.place}
        </p>
        {canLock(session.plain) && (
          <button
            type="button"
            class="tool"
            title="Lock this key with a passkey"
            onClick={() => setDialog("lock")}
          >
            <Icon name="key" />
            <span class="unseen">Lock this key with a passkey</span>
          </button>
        )}
        <button
          type="button"
          class="signer"
          aria-label={`Signed by ${shortDigest(release.signer)}: about this release`}
          onClick={() => setDialog("release")}
        >
          <Icon name="shield" />
          <span>
            Signed by <code>{shortDigest(release.signer)}</code>
          </span>
        </button>
      </header>
      {notes.length > notesRead && (
        <div class="notes" role="status">
          <ul>
            {notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
          <button type="button" class="tool" onClick={() => setNotesRead(notes.length)}>
            <Icon name="close" />
            <span class="unseen">Close the notes</span>
          </button>
        </div>
      )}
      <main class={panes.length ? "body has-image" : "body"}>
        <ImageList session={session} onOpen={open} />
        <div class={`panes panes-${panes.length}`}>
          {panes.length === 0 && <p class="empty">Choose an image from the list.</p>}
          {panes.map((pane, index) => (
            <PaneView
              key={index}
              pane={pane}
              index={index}
              opened={session.opened!}
              onHelp={() => setDialog("keys")}
            />
          ))}
        </div>
      </main>
      {dialog === "keys" && <KeysDialog onClose={() => setDialog(null)} />}
      {dialog === "lock" && session.plain && (
        <LockDialog plain={session.plain} onClose={() => setDialog(null)} />
      )}
      {dialog === "release" && <ReleaseDialog session={session} onClose={() => setDialog(null)} />}
    </div>
  );

  /** The list waits while an image is being opened: the reader waits for that. */
  function useHeldPreviews({ workspace: { panes: shown } }: Opened): void {
    useEffect(() => {
      const check = () =>
        previews.hold(shown.some(({ progress, error }) => progress !== null && !error));
      const ends = shown.map((pane) => pane.subscribe(check));
      check();
      return () => ends.forEach((end) => end());
    }, [shown]);
  }
}

/** Whether there is something to say of the signer. demanded: it is the one that must have signed. */
function isNew({ first, replaced, forgotten }: Recognised, demanded: boolean): boolean {
  return replaced !== null || ((first || forgotten) && !demanded);
}

interface PaneViewProps {
  readonly pane: Pane;
  readonly index: number;
  readonly opened: Opened;
  readonly onHelp: () => void;
}

function PaneView({ pane, index, opened, onHelp }: PaneViewProps) {
  const { workspace, release } = opened;
  useObservable(pane);
  const cine = useCine(pane);
  const isActive = workspace.panes.length > 1 && workspace.active === index;
  const name = pane.image?.name ? legible(pane.image.name) : nameOf(pane.entry);
  const activate = () => workspace.activate(index);
  return (
    <section
      class={isActive ? "pane active" : "pane"}
      aria-label={`Image ${index + 1}: ${name}`}
      onFocusCapture={activate}
      onPointerDownCapture={activate}
    >
      <header class="pane-head">
        <button type="button" class="tool back" onClick={() => workspace.closeAll()}>
          <Icon name="back" />
          <span class="unseen">Back to the list</span>
        </button>
        <h2 title={name}>{splitPath(name).base}</h2>
        <TierChoice pane={pane} />
        <Compare opened={opened} index={index} />
        <Saving pane={pane} />
      </header>
      <Toolbar pane={pane} onHelp={onHelp} />
      <Stage pane={pane} onHelp={onHelp} onPlay={cine.toggle} />
      <FrameBar pane={pane} cine={cine} />
      <Banner pane={pane} grants={release.grants} />
    </section>
  );
}

function TierChoice({ pane }: { readonly pane: Pane }) {
  if (pane.tiers.length < 2) return null;
  return (
    <label class="choice">
      <span class="unseen">Tier</span>
      <select
        value={pane.tier}
        onChange={(event) => pane.chooseTier(event.currentTarget.value as ShownTier)}
      >
        {pane.tiers.map((tier) => (
          <option key={tier} value={tier}>
            {tierWords[tier]}
          </option>
        ))}
      </select>
    </label>
  );
}

function Compare({ opened, index }: { readonly opened: Opened; readonly index: number }) {
  const { workspace } = opened;
  if (workspace.panes.length < 2) {
    return (
      <button
        type="button"
        class="tool wide-only"
        title="Compare: another tier or image beside this one"
        onClick={() => workspace.split()}
      >
        <Icon name="compare" />
        <span class="unseen">Compare: another tier or image beside this one</span>
      </button>
    );
  }
  return (
    <>
      {index === 0 && (
        <button
          type="button"
          class="tool"
          aria-pressed={workspace.linked}
          title="Zoom, pan and frames together"
          onClick={() => workspace.setLinked(!workspace.linked)}
        >
          <Icon name="link" />
          <span class="unseen">Zoom, pan and frames together</span>
        </button>
      )}
      <button
        type="button"
        class="tool"
        title="Close this image"
        onClick={() => workspace.closePane(index)}
      >
        <Icon name="close" />
        <span class="unseen">Close this image</span>
      </button>
    </>
  );
}

/** Files to keep: of the highest tier that is opened, or of a lower one. */
function Saving({ pane }: { readonly pane: Pane }) {
  const [state, setState] = useState<string | null>(null);
  const { image } = pane;
  useEffect(() => setState(null), [pane]);
  if (!image) return null;
  const keep = async (tier: Tier) => {
    try {
      setState("Preparing the file");
      const onProgress = (share: number) => setState(`Preparing: ${Math.round(share * 100)} %`);
      const files = await image.files(tier, { onProgress });
      save(files, image.name ?? image.id);
      const bytes = files.reduce((sum, file) => sum + file.bytes.length, 0);
      setState(`Saved ${bytesText(bytes)}`);
    } catch (error) {
      const { title, message, hint } = explain(error);
      setState([title, message, hint].filter(Boolean).join(": "));
    }
  };
  return (
    <div class="saving">
      <span class="saved" role="status">
        {state}
      </span>
      <label class="choice save">
        <Icon name="save" />
        <span class="unseen">Save a file of tier</span>
        <select
          value=""
          onChange={(event) => {
            const tier = event.currentTarget.value as Tier;
            event.currentTarget.value = "";
            void keep(tier);
          }}
        >
          <option value="" disabled>
            Save
          </option>
          {image.tiers.toReversed().map((tier) => (
            <option key={tier} value={tier}>
              {tierWords[tier]} file
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
