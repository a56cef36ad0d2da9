import { nginxAuthRequest, nginxLua, nginxStatic } from './contenders/nginx.ts';
import { express, fastify, undiciPassThrough } from './contenders/node.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import type { Figure } from './results.ts';
import { measured, quoted } from './statistics.ts';

/** What Tollgate sets out to reach: a figure of one subject, as a multiple of the same figure of another, or by itself. */
export type Target = {
  bench: string;
  measure: string;
  subject: string;
  /** `null`: the figure itself is what counts. */
  of: string | null;
  atLeast?: number;
  atMost?: number;
};

const RATE = 'requests a second';

const FULL_LOAD = (subject: string, of: string, atLeast: number): Target => ({
  bench: 'gateway',
  measure: RATE,
  subject,
  of,
  atLeast,
});

export const TARGETS: readonly Target[] = [
  FULL_LOAD(tollgateNodeHttp.name, undiciPassThrough.name, 0.9),
  FULL_LOAD(tollgateNodeHttp.name, nginxAuthRequest.name, 1),
  FULL_LOAD(tollgateNodeHttp.name, fastify.name, 2),
  FULL_LOAD(tollgateNodeHttp.name, express.name, 6),
  FULL_LOAD(tollgateFastLane.name, nginxStatic.name, 0.8),
  FULL_LOAD(tollgateFastLane.name, nginxLua.name, 1.1),
  FULL_LOAD(tollgateFastLane.name, nginxAuthRequest.name, 2),
];

/** A target beside what was measured. */
export type Judged = { target: Target; value: number; unit: string; met: boolean };

/** The targets of a benchmark whose figures are there. */
export function judged(bench: string, figures: readonly Figure[]): Judged[] {
  const medianOf = (subject: string, measure: string) => {
    const figure = figures.find((each) => each.subject === subject && each.measure === measure);
    return figure && { value: measured(figure.runs).median, unit: figure.unit };
  };
  return TARGETS.filter((target) => target.bench === bench).flatMap((target) => {
    const own = medianOf(target.subject, target.measure);
    const other = target.of === null ? { value: 1 } : medianOf(target.of, target.measure);
    if (!own || !other) return [];
    const value = own.value / other.value;
    const met = value >= (target.atLeast ?? -Infinity) && value <= (target.atMost ?? Infinity);
    return [{ target, value, unit: target.of === null ? own.unit : '', met }];
  });
}

/** What a target asks for, in words. */
export function targetText({ atLeast, atMost }: Target, unit: string): string {
  const [word, value] = atLeast === undefined ? ['at most', atMost] : ['at least', atLeast];
  return `${word} ${value}${unit && ` ${unit}`}`;
}

/** The targets of a benchmark as lines for a terminal. */
export function targetLines(bench: string, figures: readonly Figure[]): string[] {
  return judged(bench, figures).map(({ target, value, unit, met }) => {
    const { subject, of, measure } = target;
    const what = of === null ? `${subject}: ${measure}` : `${subject} / ${of}: ${measure}`;
    const verdict = met ? 'met' : 'MISSED';
    return `  ${verdict.padEnd(6)}  ${what}: ${quoted(value)} ${unit} (${targetText(target, unit)})`;
  });
}
