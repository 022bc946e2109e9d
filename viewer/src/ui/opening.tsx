/** What the page shows until a release is open: its address, the key, the PIN, doubts and errors. */
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Explained } from "./explain.ts";
import { Icon } from "./icons.tsx";
import { hasPasskeys, keyFrom, keyFromText, type LockedKey } from "./key.ts";
import type { Session } from "./session.ts";

export function Opening({ session }: { readonly session: Session }) {
  const { stage, config } = session;
  return (
    <main class="opening">
      <div class="card">
        <h1>primis viewer</h1>
        {config && (
          <p class="place">
            <span class="quiet">Release</span> {config.place}
          </p>
        )}
        {stage.at === "address" && <AddressForm session={session} error={stage.error} />}
        {stage.at === "key" && stage.locked && (
          <LockedForm session={session} error={stage.error} locked={stage.locked} />
        )}
        {stage.at === "key" && !stage.locked && <KeyForm session={session} error={stage.error} />}
        {stage.at === "pin" && <PinForm session={session} error={stage.error} />}
        {(stage.at === "opening" || stage.at === "starting") && <Working at={stage.at} />}
        {stage.at === "doubt" && (
          <Doubt session={session} error={stage.error} canAccept={stage.canAccept} />
        )}
        {stage.at === "failed" && <Problem error={stage.error} />}
      </div>
      <p class="quiet">
        Keys never leave this page. primis is research software and not a medical device.
      </p>
    </main>
  );
}

function Working({ at }: { readonly at: "opening" | "starting" }) {
  return (
    <p role="status" class="working">
      <label>
        {at === "opening" ? "Opening the release" : "Starting"}
        <progress />
      </label>
    </p>
  );
}

export function Problem({ error }: { readonly error: Explained | null }) {
  if (!error) return null;
  return (
    <div class="problem" role="alert">
      <strong>{error.title}</strong>
      {error.message && <p>{error.message}</p>}
      {error.hint && <p>{error.hint}</p>}
    </div>
  );
}

interface FormProps {
  readonly session: Session;
  readonly error: Explained | null;
}

function AddressForm({ session, error }: FormProps) {
  const [typed, setTyped] = useState("");
  const go = () => {
    const next = session.addressFor(typed);
    if (next) location.assign(next);
  };
  return (
    <Form onSubmit={go} submit="Open">
      <Problem error={error} />
      <label class="field">
        Address of the release
        <input
          type="url"
          required
          placeholder="https://host/release"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </label>
    </Form>
  );
}

interface FormBodyProps {
  readonly onSubmit: () => void;
  readonly submit: string;
  readonly children: ComponentChildren;
}

function Form({ onSubmit, submit, children }: FormBodyProps) {
  return (
    <form
      autocomplete="off"
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit();
      }}
    >
      {children}
      <button type="submit" class="primary">
        {submit}
      </button>
    </form>
  );
}

/** A secret that the browser is asked not to keep. */
function SecretField(props: {
  readonly label: string;
  readonly value: string;
  readonly onInput: (value: string) => void;
  readonly numeric?: boolean;
}) {
  return (
    <label class="field">
      {props.label}
      <input
        type="password"
        required
        autocomplete="off"
        inputMode={props.numeric ? "numeric" : "text"}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </label>
  );
}

const WAYS = ["file", "passphrase"] as const;
type Way = (typeof WAYS)[number];
const WAY_NAMES: Readonly<Record<Way, string>> = {
  file: "Key file",
  passphrase: "Passphrase",
};

function KeyForm({ session, error }: FormProps) {
  const [way, setWay] = useState<Way>(session.tried === "passphrase" ? "passphrase" : "file");
  return (
    <>
      <fieldset class="ways">
        <legend>Open with</legend>
        {WAYS.map((each) => (
          <label key={each} class={each === way ? "way chosen" : "way"}>
            <input
              type="radio"
              name="way"
              value={each}
              checked={each === way}
              onChange={() => setWay(each)}
            />
            {WAY_NAMES[each]}
          </label>
        ))}
      </fieldset>
      <Problem error={error} />
      {way === "file" && <KeyFileForm session={session} />}
      {way === "passphrase" && <PassphraseForm session={session} />}
    </>
  );
}

function KeyFileForm({ session }: { readonly session: Session }) {
  const [typed, setTyped] = useState("");
  const [isOver, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const take = async (file: File | null | undefined) => {
    if (!file) return;
    try {
      await session.offer(await keyFrom(new Uint8Array(await file.arrayBuffer()), file.name));
    } catch (error) {
      session.refuse(error);
    }
  };
  const takeText = async () => {
    try {
      await session.offer(await keyFromText(typed));
    } catch (error) {
      session.refuse(error);
    }
  };
  return (
    <Form submit="Open" onSubmit={() => void takeText()}>
      <div
        class={isOver ? "drop over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          void take(event.dataTransfer?.files[0]);
        }}
      >
        <Icon name="key" />
        <p>
          Drop your key file here, or{" "}
          <button type="button" onClick={() => input.current!.click()}>
            choose a file
          </button>
        </p>
        <input
          ref={input}
          type="file"
          hidden
          aria-label="Key file"
          onChange={(event) => void take(event.currentTarget.files?.[0])}
        />
      </div>
      <label class="field">
        or paste the key
        <textarea
          rows={3}
          required
          autocomplete="off"
          spellcheck={false}
          placeholder="AGE-SECRET-KEY-1..."
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </label>
    </Form>
  );
}

function PassphraseForm({ session }: { readonly session: Session }) {
  const [typed, setTyped] = useState("");
  return (
    <Form
      submit="Open"
      onSubmit={() => void session.open({ kind: "passphrase", passphrase: typed })}
    >
      <SecretField label="Passphrase of the grant" value={typed} onInput={setTyped} />
    </Form>
  );
}

interface LockedFormProps extends FormProps {
  readonly locked: LockedKey;
}

function LockedForm({ session, error, locked }: LockedFormProps) {
  const Unlock = locked.by === "passkey" ? PasskeyForm : LockPassphraseForm;
  return (
    <>
      <Problem error={error} />
      <Unlock session={session} locked={locked} />
      <button type="button" class="plain" onClick={() => session.askAgain()}>
        Use another key
      </button>
    </>
  );
}

type UnlockProps = Omit<LockedFormProps, "error">;

function LockPassphraseForm({ session, locked: { file } }: UnlockProps) {
  const [passphrase, setPassphrase] = useState("");
  return (
    <Form submit="Open" onSubmit={() => void session.open({ kind: "sealed", file, passphrase })}>
      <p>The key file is encrypted.</p>
      <SecretField label="Its passphrase" value={passphrase} onInput={setPassphrase} />
    </Form>
  );
}

function PasskeyForm({ session, locked }: UnlockProps) {
  if (!hasPasskeys(location.hostname)) {
    return (
      <p>
        This key file is locked with a passkey, which works only at the address that it was made
        for. Open the viewer there, or use the original key.
      </p>
    );
  }
  return (
    <Form submit="Unlock with your passkey" onSubmit={() => void session.unlock(locked)}>
      <p>This key file is locked with a passkey.</p>
    </Form>
  );
}

function PinForm({ session, error }: FormProps) {
  const [pin, setPin] = useState("");
  return (
    <>
      <Problem error={error} />
      <Form submit="Open" onSubmit={() => void session.openWithPin(pin)}>
        <p>The sender of the link also gave you a PIN, separately.</p>
        <SecretField label="PIN" value={pin} onInput={setPin} numeric />
      </Form>
    </>
  );
}

interface DoubtProps {
  readonly session: Session;
  readonly error: Explained;
  readonly canAccept: boolean;
}

/** As with a changed host key in SSH: nothing opens until a person accepts it. */
function Doubt({ session, error, canAccept }: DoubtProps) {
  return (
    <>
      <Problem error={error} />
      {canAccept && (
        <>
          <p>
            Accept only if the owner has told you about the change. The page then remembers this
            signer and state in place of those that it saw before.
          </p>
          <button type="button" class="danger" onClick={() => session.accept()}>
            Accept what is there now
          </button>
        </>
      )}
    </>
  );
}
