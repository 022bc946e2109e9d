/** Arrow keys within a toolbar: from one control to the next, as screen readers announce it. */

export function rovingKeys(event: KeyboardEvent): void {
  const bar = event.currentTarget as HTMLElement;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.target instanceof HTMLSelectElement) return;
  const controls = [...bar.querySelectorAll<HTMLElement>("button, select")];
  const at = controls.indexOf(event.target as HTMLElement);
  controls[(at + step + controls.length) % controls.length]?.focus();
  event.preventDefault();
}
