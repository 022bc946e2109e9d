/** A small web host for the tests: files by their paths, with ranges or without. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Served {
  readonly url: string;
  /** What was asked for: path, and range if there was one. */
  readonly asked: string[];
  close(): void;
}

export interface Answers {
  /** The file of a path; a text is where it redirects to, null for none. */
  readonly file: (path: string) => Uint8Array | string | null;
  readonly ranges?: boolean;
  readonly headers?: Record<string, string>;
  /** What is posted. */
  readonly posted?: (body: string) => void;
  /** The status of an answer in place of 200, by the number of the request. */
  readonly status?: (count: number) => number;
}

export async function serve(answers: Answers): Promise<Served> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.url} ${request.headers.range ?? ""}`.trim());
    void answer(request, response, answers, asked.length);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  answers: Answers,
  count: number,
): Promise<void> {
  if (request.method === "POST") {
    let body = "";
    for await (const part of request) body += String(part);
    response.end();
    return answers.posted?.(body);
  }
  const status = answers.status?.(count) ?? 200;
  const path = decodeURIComponent(new URL(request.url!, "http://x").pathname);
  const data = answers.file(path);
  if (typeof data === "string") return void response.writeHead(302, { location: data }).end();
  if (!data || status !== 200) return void response.writeHead(data ? status : 404).end();
  const type = { html: "text/html", js: "text/javascript", wasm: "application/wasm" };
  const suffix = path.split(".").at(-1) as keyof typeof type;
  const headers = {
    "content-type": type[suffix] ?? "application/octet-stream",
    ...answers.headers,
  };
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  if (!range || answers.ranges === false) return void response.writeHead(200, headers).end(data);
  const [start, end] = [Number(range[1]), Number(range[2]) + 1];
  const told = { "content-range": `bytes ${start}-${end - 1}/${data.length}` };
  response.writeHead(206, { ...headers, ...told }).end(data.subarray(start, end));
}
