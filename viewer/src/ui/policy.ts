/**
 * The second content security policy. The one in index.html must allow any host, since it cannot
 * know the release's; as soon as that is known, this one allows it alone. Policies only add up, and
 * the worker, which is made from a blob, inherits both.
 */

/** Connections to the page's own host and to the release's, to nothing else. */
export function policyFor(release: string): string {
  return `connect-src 'self' ${new URL(release).origin}`;
}

export function confineTo(release: string, page: Document): void {
  const meta = page.createElement("meta");
  meta.httpEquiv = "Content-Security-Policy";
  meta.content = policyFor(release);
  page.head.append(meta);
}
