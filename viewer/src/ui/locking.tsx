/** The dialog that locks a key with a passkey, and saves the file for the next time. */
import { useState } from "preact/hooks";
import { Dialog } from "./dialog.tsx";
import { explain, type Explained } from "./explain.ts";
import { hasPasskeys, type PlainKey } from "./key.ts";
import { Problem } from "./opening.tsx";
import { save } from "./saving.ts";

export const canLock = (key: PlainKey | null): key is PlainKey =>
  key !== null && hasPasskeys(location.hostname);

interface LockDialogProps {
  readonly plain: PlainKey;
  readonly onClose: () => void;
}

export function LockDialog({ plain, onClose }: LockDialogProps) {
  const [state, setState] = useState<"offered" | "asking" | "saved">("offered");
  const [error, setError] = useState<Explained | null>(null);
  const name = `${plain.name}.passkey.age`;
  const lock = async () => {
    setState("asking");
    setError(null);
    try {
      const { lockWithPasskey } = await import("../keys/passkey.ts");
      const bytes = await lockWithPasskey(plain.text, `primis: ${plain.name}`);
      save([{ name, type: "application/octet-stream", bytes }], name);
      setState("saved");
    } catch (failure) {
      setError(explain(failure));
      setState("offered");
    }
  };
  return (
    <Dialog title="Lock this key with a passkey" onClose={onClose}>
      <div class="lock">
        <p>
          Anyone who has your key file can use it. Once it is locked with a passkey, it also needs
          your fingerprint, your face or the PIN of your device.
        </p>
        <ul>
          <li>
            You get a new file, <code>{name}</code>. Next time, choose that file here.
          </li>
          <li>
            The passkey works only at <code>{location.hostname}</code>. Anywhere else, and on the
            command line, you need the original key.
          </li>
          <li>
            Without the passkey, nobody can unlock the file. Keep the original key somewhere safe.
          </li>
        </ul>
        <Problem error={error} />
        <p role="status">
          {state === "asking" && "Your browser asks twice: to make the passkey, and to use it."}
          {state === "saved" &&
            `Saved ${name}. Open a release with it before you put the original key away.`}
        </p>
        {state !== "saved" && (
          <button
            type="button"
            class="primary"
            disabled={state === "asking"}
            onClick={() => void lock()}
          >
            Make a passkey and save the file
          </button>
        )}
      </div>
    </Dialog>
  );
}
