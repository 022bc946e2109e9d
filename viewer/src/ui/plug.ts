/** Where the engine is plugged in: from a request of the page to an open release. */
import { UsageError } from "../errors.ts";
import type { OpenFunction } from "./serve.ts";

export const openInWorker: OpenFunction = () =>
  Promise.reject(new UsageError("this build holds no engine"));
