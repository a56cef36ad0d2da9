import { z } from 'zod';
import type { Window } from './plan.ts';

const UNIT_SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const NAMED_WINDOWS = { second: 1, minute: 60, hour: 3600, day: 86_400 } as const;
const MAX_WINDOW_SECONDS = 24 * 86_400;

/** How many windows a plan or a key can have. */
export const MAX_WINDOWS = 8;

export const amountSchema = z.int().min(1).max(1_000_000_000);
export const perSchema = z
  .string()
  .regex(
    /^(second|minute|hour|day|[1-9][0-9]{0,5}[smhd])$/,
    'is second, minute, hour, day, or a time such as 10s, 5m, 1h',
  )
  // Counters live in memory and end with the process; what lasts longer is what a quota is for.
  .refine((per) => windowSeconds(per) <= MAX_WINDOW_SECONDS, 'is longer than 24 days: use `quota` for that');
export const windowSchema = z.strictObject({ requests: amountSchema, per: perSchema });
export const quotaSchema = z.int().min(1);

/** Windows as they were written, sorted from the shortest to the longest. */
export function toWindows(written: readonly z.output<typeof windowSchema>[]): Window[] {
  return written.map(toWindow).sort((a, b) => a.seconds - b.seconds);
}

/** Names of sorted windows of which there are two. */
export function namedTwice(windows: readonly Window[]): string[] {
  return windows.filter(({ seconds }, i) => windows[i + 1]?.seconds === seconds).map(({ name }) => name);
}

const LINE = /^(\d{1,12}) per (\S+)$/;
const lineSchema = z.string().transform((line, context) => {
  const [, requests, per = ''] = LINE.exec(line) ?? [];
  const window = windowSchema.safeParse({ requests: Number(requests), per });
  if (window.success) return window.data;
  const [issue] = window.error.issues;
  context.addIssue(
    issue?.path[0] === 'per' && requests !== undefined
      ? `have "${per}" in them: what follows "per" ${issue.message}`
      : `have "${line}" in them, and not something like "600 per minute", from 1 to 1,000,000,000`,
  );
  return z.NEVER;
});
const linesSchema = z
  .array(lineSchema)
  .max(MAX_WINDOWS, `are at most ${MAX_WINDOWS}`)
  .transform(toWindows)
  .superRefine((windows, context) => {
    for (const name of namedTwice(windows)) context.addIssue(`have two per ${name}; keep one`);
  });

/** Limits as a person types them, separated by commas or on a line each: `10 per second, 600 per minute`. None: `null`. */
export const typedWindowsSchema = z
  .string()
  .transform((text) =>
    text
      .split(/[,\n]/)
      .map((line) => line.trim().replaceAll(/\s+/g, ' '))
      .filter((line) => line !== ''),
  )
  .pipe(linesSchema)
  .transform((windows) => (windows.length === 0 ? null : windows));

/** Windows as {@link typedWindowsSchema} reads them, each in a line of its own. */
export function typedWindows(windows: readonly Window[]): string[] {
  return windows.map(({ requests, name }) => `${requests} per ${name}`);
}

function windowSeconds(per: string): number {
  return (
    NAMED_WINDOWS[per as keyof typeof NAMED_WINDOWS] ??
    Number(per.slice(0, -1)) * UNIT_SECONDS[per.slice(-1) as keyof typeof UNIT_SECONDS]
  );
}

function toWindow({ requests, per }: z.output<typeof windowSchema>): Window {
  const seconds = windowSeconds(per);
  const name = Object.entries(NAMED_WINDOWS).find(([, length]) => length === seconds)?.[0] ?? per;
  return { name, requests, seconds };
}
