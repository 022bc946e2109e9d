/** The tools of one image. Each has a keyboard shortcut too (keyboard.ts). */
import type { ComponentChildren } from "preact";
import { FIT, mirrored, turned } from "./geometry.ts";
import { Icon, type IconName } from "./icons.tsx";
import { useObservable } from "./observable.ts";
import type { Pane, Tool } from "./pane.ts";
import { rovingKeys } from "./roving.ts";
import { legible, windowText } from "./words.ts";

interface ToolButtonProps {
  readonly icon: IconName;
  readonly name: string;
  /** The key that does the same. */
  readonly shortcut: string;
  readonly pressed?: boolean;
  readonly onClick: () => void;
}

function ToolButton({ icon, name, shortcut, pressed, onClick }: ToolButtonProps) {
  return (
    <button
      type="button"
      class="tool"
      aria-pressed={pressed}
      title={`${name} (${shortcut})`}
      onClick={onClick}
    >
      <Icon name={icon} />
      <span class="unseen">{name}</span>
    </button>
  );
}

const TOOLS: readonly (readonly [Tool, string, string])[] = [
  ["window", "Window", "W"],
  ["pan", "Pan", "P"],
  ["zoom", "Zoom", "Z"],
  ["measure", "Measure a distance", "M"],
];

export function Toolbar({ pane, onHelp }: { readonly pane: Pane; readonly onHelp: () => void }) {
  useObservable(pane);
  return (
    <div class="toolbar" role="toolbar" aria-label="Tools" onKeyDown={rovingKeys}>
      <Group>
        {TOOLS.map(([tool, name, shortcut]) => (
          <ToolButton
            key={tool}
            icon={tool}
            name={name}
            shortcut={shortcut}
            pressed={pane.tool === tool}
            onClick={() => pane.update({ tool })}
          />
        ))}
      </Group>
      <WindowChoice pane={pane} />
      <ChannelChoice pane={pane} />
      <Group>
        <ToolButton
          icon="invert"
          name="Invert"
          shortcut="I"
          pressed={pane.inverted}
          onClick={() => pane.update({ inverted: !pane.inverted })}
        />
        <ToolButton
          icon="rotate"
          name="Rotate right"
          shortcut="R"
          onClick={() => pane.look(turned(pane.view))}
        />
        <ToolButton
          icon="across"
          name="Flip left to right"
          shortcut="H"
          onClick={() => pane.look(mirrored(pane.view, "across"))}
        />
        <ToolButton
          icon="down"
          name="Flip top to bottom"
          shortcut="V"
          onClick={() => pane.look(mirrored(pane.view, "down"))}
        />
        <ToolButton icon="fit" name="Fit" shortcut="0" onClick={() => pane.look(FIT)} />
        <ToolButton icon="help" name="Keyboard shortcuts" shortcut="?" onClick={onHelp} />
      </Group>
    </div>
  );
}

const Group = ({ children }: { readonly children: ComponentChildren }) => (
  <div class="group">{children}</div>
);

/** The windows in the header, one computed from the image, and all grey levels. */
function WindowChoice({ pane }: { readonly pane: Pane }) {
  const presets = pane.image?.display?.windows ?? [];
  const chosen = presets.findIndex((preset) => preset === pane.window);
  const value = chosen >= 0 ? String(chosen) : pane.windowName || "own";
  const choose = (name: string) => {
    if (name === "auto") pane.chooseAuto();
    else if (name === "full") pane.chooseFull();
    else pane.choosePreset(Number(name));
  };
  return (
    <label class="choice">
      <span class="unseen">Window</span>
      <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
        {presets.map((preset, index) => (
          <option key={index} value={String(index)}>
            {preset.name ? `${legible(preset.name)}: ${windowText(preset)}` : windowText(preset)}
          </option>
        ))}
        <option value="auto">Window from the image</option>
        <option value="full">All grey levels</option>
        {value === "own" && (
          <option value="own" disabled>
            Custom window
          </option>
        )}
      </select>
    </label>
  );
}

/** For an image whose channels are not colours. */
function ChannelChoice({ pane }: { readonly pane: Pane }) {
  const { image } = pane;
  if (!image || image.photometric !== "CHANNELS" || image.channels < 2) return null;
  return (
    <label class="choice">
      <span class="unseen">Channel</span>
      <select
        value={String(pane.channel)}
        onChange={(event) => pane.update({ channel: Number(event.currentTarget.value) })}
      >
        {Array.from({ length: image.channels }, (_, channel) => (
          <option key={channel} value={String(channel)}>
            Channel {channel + 1}
          </option>
        ))}
      </select>
    </label>
  );
}
