/** The page's worker with a release that is not there. */
import type { Thread } from "../../src/ui/rpc.ts";
import { serve } from "../../src/ui/serve.ts";
import { openFake } from "./fake_release.ts";

serve(self as unknown as Thread, openFake, () => Promise.resolve());
