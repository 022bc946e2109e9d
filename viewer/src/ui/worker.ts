/** The worker: all of the engine runs here, so that the page stays responsive. */
import { openInWorker, warmInWorker } from "./plug.ts";
import type { Thread } from "./rpc.ts";
import { serve } from "./serve.ts";

serve(self as unknown as Thread, openInWorker, warmInWorker);
