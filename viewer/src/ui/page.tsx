/** The page: what is shown at each stage of a session. */
import { render } from "preact";
import type { Engine } from "./engine.ts";
import type { Link } from "./key.ts";
import { useObservable } from "./observable.ts";
import { Opening } from "./opening.tsx";
import { Session } from "./session.ts";
import { Viewing } from "./viewing.tsx";

/** Shows a session in an element. link: what the address's fragment held. */
export function startPage(root: Element, engine: Engine, page: URL, link: Link | null): Session {
  const session = new Session(engine, page, link);
  render(<Page session={session} />, root);
  void session.start();
  return session;
}

function Page({ session }: { readonly session: Session }) {
  useObservable(session);
  return session.stage.at === "open" ? (
    <Viewing session={session} />
  ) : (
    <Opening session={session} />
  );
}
