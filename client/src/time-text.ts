/** A time for people, the same everywhere: `2026-12-05 14:02 UTC`. @param at milliseconds since the epoch */
export function timeText(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
