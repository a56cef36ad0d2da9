import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { type Check, ok, stop, stopIfLive, warning } from './check.ts';

/** What only a person can say: each with who says so, and on which day it was done. */
const ATTESTED = {
  support_answered: 'support answered a test message',
  prices_approved: 'prices and usage limits are approved',
  legal_reviewed: 'legal review is done',
  accounting_reviewed: 'accounting review is done',
} as const;

export const ATTESTATIONS_FILE = 'preflight.yaml';
const DAY_MS = 86_400_000;
/** Then it is worth asking again. */
const OLD_MS = 365 * DAY_MS;

const attestation = z.strictObject({
  by: z.string().trim().min(2, 'is the name of a person').max(200),
  on: z.iso.date('is a day such as 2026-11-30'),
});
const fileSchema = z.strictObject({
  support_answered: attestation.optional(),
  prices_approved: attestation.optional(),
  legal_reviewed: attestation.optional(),
  accounting_reviewed: attestation.optional(),
});

export const attestations: Check = {
  id: 'attestations',
  title: 'People have approved what only people can',
  offline: true,
  run(context) {
    const { folder, now } = context;
    const file = join(folder, ATTESTATIONS_FILE);
    const remedy = `Have whoever is responsible write name and day into ${file}: the README shows how.`;
    if (!existsSync(file)) return stopIfLive(context, `There is no ${file}.`, remedy);
    const read = readAttestations(file);
    if (typeof read === 'string') return stop(`${file} cannot be read: ${read}.`, remedy);
    const names = Object.keys(ATTESTED) as (keyof typeof ATTESTED)[];
    const missing = names.filter((name) => read[name] === undefined);
    if (missing.length > 0)
      return stopIfLive(
        context,
        `Nobody has said that ${missing.map((name) => ATTESTED[name]).join(', ')}.`,
        remedy,
      );
    const days = names.map((name) => ({ name, at: Date.parse(read[name]?.on as string) }));
    // Wherever on Earth the day was written down, it has begun there at most a day before here.
    const ahead = days.filter(({ at }) => at > now() + DAY_MS);
    if (ahead.length > 0)
      return stopIfLive(
        context,
        `On a day that is yet to come: ${ahead.map(({ name }) => name).join(', ')}.`,
        remedy,
      );
    const old = days.filter(({ at }) => now() - at > OLD_MS);
    if (old.length > 0)
      return warning(`More than a year ago: ${old.map(({ name }) => name).join(', ')}.`, remedy);
    return ok(
      names
        .map((name) => `${ATTESTED[name]} (${read[name]?.by}, ${read[name]?.on})`)
        .join('; ')
        .concat('.'),
    );
  },
};

/** What is attested, or what is wrong with the file. */
function readAttestations(file: string): z.output<typeof fileSchema> | string {
  try {
    // A day stays text: YAML's own dates would be moments.
    const parsed = fileSchema.safeParse(parse(readFileSync(file, 'utf8'), { schema: 'core' }) ?? {});
    if (parsed.success) return parsed.data;
    return parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`.trim()).join('; ');
  } catch (error) {
    return (error as Error).message.split('\n')[0] as string;
  }
}
