import { grid, type Results } from './results.ts';
import { quoted } from './statistics.ts';

const WIDTH = 900;
const LABELS = 400;
const BAR = 18;
const ROW = 30;
const TOP = 64;
const RIGHT = 150;

/** How a bar is filled, and what the legend says of it. */
export type Kind = { className: string; legend: string };

/**
 * A bar chart of one measure: a bar to the median, a thin line from the smallest to the largest run. Readable in light
 * and dark: it has its own background, which follows the reader's preference.
 *
 * @param kindOf the fill of a subject's bar, or `null` to leave it out
 * @param beside a second measure, as text beside the bar
 */
export function barChart(
  { figures }: Pick<Results, 'figures'>,
  measure: string,
  beside: string,
  title: string,
  kindOf: (subject: string) => Kind | null,
): string {
  const { measures, rows } = grid(figures);
  const column = measures.indexOf(measure);
  const besideColumn = measures.indexOf(beside);
  const bars = rows.flatMap(({ subject, cells }) => {
    const kind = kindOf(subject);
    const cell = cells[column];
    return kind && cell ? [{ subject, kind, cell, other: cells[besideColumn] }] : [];
  });
  const most = Math.max(...bars.map(({ cell }) => cell.max));
  const scale = (WIDTH - LABELS - RIGHT) / most;
  const kinds = [...new Map(bars.map(({ kind }) => [kind.className, kind])).values()];
  const height = TOP + bars.length * ROW + 44;
  const x = (value: number) => (LABELS + value * scale).toFixed(1);
  const lines = bars.map(({ subject, kind, cell, other }, i) => {
    const y = TOP + i * ROW;
    const middle = y + BAR / 2;
    const text = `${quoted(cell.median)} ${cell.unit}${other ? ` · ${quoted(other.median)} ${unitText(other.unit)}` : ''}`;
    return [
      `<text x="${LABELS - 10}" y="${middle}" text-anchor="end" dominant-baseline="central">${escaped(subject)}</text>`,
      `<rect class="${kind.className}" x="${LABELS}" y="${y}" width="${(cell.median * scale).toFixed(1)}" height="${BAR}" rx="2"/>`,
      `<path class="spread" d="M${x(cell.min)} ${middle}H${x(cell.max)}M${x(cell.min)} ${middle - 4}v8M${x(cell.max)} ${middle - 4}v8"/>`,
      `<text class="value" x="${(LABELS + cell.max * scale + 8).toFixed(1)}" y="${middle}" dominant-baseline="central">${escaped(text)}</text>`,
    ].join('\n  ');
  });
  let legendX = 20;
  const legend = kinds.map(({ className, legend }) => {
    const at = legendX;
    legendX += legend.length * 7 + 46;
    const y = height - 26;
    return `<rect class="${className}" x="${at}" y="${y}" width="12" height="12" rx="2"/>
  <text class="value" x="${at + 18}" y="${y + 6}" dominant-baseline="central">${escaped(legend)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
  <title id="title">${escaped(title)}</title>
  <style>
    svg { --back: #ffffff; --line: #d0d7de; --text: #1f2328; --quiet: #59636e; --own: #0969da; --peer: #8c959f; --limit: #eaeef2; --mark: #1f2328; }
    @media (prefers-color-scheme: dark) {
      svg { --back: #0d1117; --line: #3d444d; --text: #f0f6fc; --quiet: #9198a1; --own: #4493f8; --peer: #656c76; --limit: #212830; --mark: #f0f6fc; }
    }
    text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--text); }
    .heading { font-size: 15px; font-weight: 600; }
    .value { font-size: 12px; fill: var(--quiet); }
    .back { fill: var(--back); stroke: var(--line); }
    .own { fill: var(--own); }
    .peer { fill: var(--peer); }
    .limit { fill: var(--limit); stroke: var(--peer); stroke-dasharray: 3 2; }
    .spread { stroke: var(--mark); stroke-width: 1; fill: none; opacity: 0.6; }
  </style>
  <rect class="back" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
  <text class="heading" x="20" y="32">${escaped(title)}</text>
  ${lines.join('\n  ')}
  ${legend.join('\n  ')}
</svg>
`;
}

/** Units are written in ASCII in the results. */
export function unitText(unit: string): string {
  return unit === 'us' ? 'µs' : unit;
}

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
}
