/** Icons of 24 by 24, drawn as lines in the colour of the text. Beside each stands a name. */
const PATHS = {
  window: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 3v18M12 8h8M12 12h9M12 16h8",
  pan: "M12 3v18M3 12h18M12 3l-3 3M12 3l3 3M12 21l-3-3M12 21l3-3M3 12l3-3M3 12l3 3M21 12l-3-3M21 12l-3 3",
  zoom: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M15.5 15.5L21 21M7.5 10.5h6M10.5 7.5v6",
  measure: "M3 16L16 3l5 5L8 21zM7 12l2 2M10 9l3 3M13 6l2 2",
  invert: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 3v18M14 5v14M16.5 6v12M19 8v8",
  rotate: "M20 5v5h-5M19.5 10A8 8 0 1 0 20 14",
  across: "M12 3v18M9 7L3 17h6zM15 7l6 10h-6z",
  down: "M3 12h18M7 9L17 3v6zM7 15l10 6v-6z",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  cursor: "M12 3v6M12 15v6M3 12h6M15 12h6",
  play: "M7 4l13 8l-13 8z",
  pause: "M8 4v16M16 4v16",
  compare: "M3 5h18v14H3zM12 5v14",
  save: "M12 4v11M7 11l5 5l5-5M4 20h16",
  back: "M14 5l-7 7l7 7",
  close: "M6 6l12 12M18 6L6 18",
  help: "M9 9a3 3 0 1 1 4 2.8c-.8.4-1 1-1 2.2M12 17.5v.5M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18",
  key: "M8 11a4 4 0 1 0 0 8a4 4 0 1 0 0-8M11 12l9-9M16 7l3 3M13 10l2 2",
  link: "M9 15l6-6M10 6l2-2a4.2 4.2 0 0 1 6 6l-2 2M14 18l-2 2a4.2 4.2 0 0 1-6-6l2-2",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M15.5 15.5L21 21",
  shield: "M12 3l8 3v6c0 5-3.5 8-8 9c-4.500-1-8-4-8-9V6z",
  warning: "M12 3L2 20h20zM12 10v5M12 17v.5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
