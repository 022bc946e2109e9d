/**
 * A release on a web host, read with `fetch`. A redirect is refused: only the
 * host that was asked may answer. No cookies and no referrer are sent. Nothing that a host sends is
 * trusted, and its words are never shown.
 */
import { HostError, NotThere, StoreError, UsageError } from "../errors.ts";
import type { Place, Span } from "./types.ts";

const AT_ONCE = 6;
const TRIES = 3;
/** Bytes of a file, or of a part of it, that a page holds: what is listed may be any number. */
const MOST_HELD = 2 ** 31;
const BUSY = new Set([408, 429, 500, 502, 503, 504]);
const GONE = new Set([404, 410]);

/** A folder of a web host. Throws UsageError for what is no URL of HTTP(S). */
export function httpPlace(url: string): Place {
  return new WebPlace(url);
}

class WebPlace implements Place {
  readonly name: string;
  private ranged = true;

  constructor(url: string) {
    const parsed = URL.canParse(url) ? new URL(url) : null;
    if (!parsed || !["http:", "https:"].includes(parsed.protocol) || parsed.username) {
      throw new UsageError(`"${url.slice(0, 80)}" is no address, expected https://host/folder`);
    }
    parsed.search = parsed.hash = "";
    this.name = parsed.href.replace(/\/+$/, "");
  }

  async read(key: string, most: number, signal?: AbortSignal): Promise<Uint8Array> {
    const url = this.url(key);
    const response = await this.answer(url, {}, signal);
    return bodyOf(response, url, Math.min(most, MOST_HELD));
  }

  async ranges(
    key: string,
    spans: readonly Span[],
    _size: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array[] | null> {
    const url = this.url(key);
    const parts: Uint8Array[] = [];
    for (let start = 0; start < spans.length && this.ranged;) {
      const some = spans.slice(start, start + (start ? AT_ONCE : 1)); // whether it serves any
      const found = await Promise.all(some.map((span) => this.range(url, span, signal)));
      for (const part of found) if (part) parts.push(part);
      start += some.length;
    }
    return this.ranged ? parts : null;
  }

  private async range(url: string, span: Span, signal?: AbortSignal): Promise<Uint8Array | null> {
    if (span.end - span.start > MOST_HELD) {
      throw new StoreError(url, `what is needed of it has over ${MOST_HELD} bytes`);
    }
    const wanted = `${span.start}-${span.end - 1}`;
    const response = await this.answer(url, { Range: `bytes=${wanted}` }, signal);
    if (response.status !== 206) {
      this.ranged = false; // the host sends whole files
      await response.body?.cancel();
      return null;
    }
    const told = response.headers.get("Content-Range");
    if (told !== null && !told.startsWith(`bytes ${wanted}/`)) {
      throw new HostError(url, "the host sends another range than it was asked for");
    }
    const data = await bodyOf(response, url, span.end - span.start);
    if (data.length === span.end - span.start) return data;
    throw new StoreError(url, "it is shorter than is listed");
  }

  private async answer(
    url: string,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Response> {
    for (let attempt = 1; ; attempt++) {
      const response = await this.once(url, headers, signal);
      if (response.ok) return response;
      await response.body?.cancel();
      if (GONE.has(response.status)) throw new NotThere(url, "the host has no such file");
      if (!BUSY.has(response.status) || attempt === TRIES) {
        throw new HostError(url, `the host refuses it (${response.status})`);
      }
      await new Promise((resolve) => setTimeout(resolve, 250 * 2 ** attempt));
    }
  }

  private async once(
    url: string,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Response> {
    try {
      return await fetch(url, {
        headers,
        redirect: "error",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        ...(signal ? { signal } : {}),
      });
    } catch {
      signal?.throwIfAborted();
      throw new HostError(
        url,
        "the host cannot be reached, redirects, or does not allow this page to read it (CORS)",
      );
    }
  }

  private url(key: string): string {
    return `${this.name}/${key.split("/").map(encodeURIComponent).join("/")}`;
  }
}

/** A body of at most so many bytes. */
async function bodyOf(response: Response, url: string, most: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  try {
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
      if (done || !value) break;
      parts.push(value);
      length += value.length;
      if (length > most) {
        await reader?.cancel();
        throw new StoreError(url, `it has more than ${most} bytes`);
      }
    }
  } catch (error) {
    if (error instanceof StoreError || (error as Error).name === "AbortError") throw error;
    throw new HostError(url, "the host went away in the middle of a file");
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
