import express, { type Request, type RequestHandler } from 'express';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import type { KeyFacts } from '../keystore/keystore.ts';
import { addressGroup } from '../shared/address-group.ts';
import { fieldErrors } from '../shared/field-errors.ts';
import { parsedBody } from '../shared/methods.ts';
import { type Problem, ProblemError } from '../shared/problems.ts';
import type { Licensing } from './context.ts';

/** What programs ask about a licence. */
export type Action = 'activate' | 'refresh' | 'validate' | 'deactivate' | 'heartbeat';

export const keySchema = z.string({ error: 'is your key' }).min(1).max(200);
export const deviceIdSchema = z
  .string({ error: 'is the id that the program gave the device' })
  .regex(/^[\x21-\x7e]{8,128}$/, 'is 8 to 128 characters without spaces');
export const deviceSchema = z.strictObject(
  {
    id: deviceIdSchema,
    name: z
      .string()
      .trim()
      .max(100)
      .regex(/^\P{Cc}*$/u, 'has control characters')
      .optional(),
  },
  { error: 'is required: {"id": "...", "name": "..."}' },
);

/** Parsers of a body that licensing takes. */
export const jsonBody: RequestHandler[] = [express.json({ limit: '16kb' }), parsedBody];

/** A body as its schema has it. @throws ProblemError `invalid_request` that names each field that is wrong */
export function readBody<Schema extends z.ZodType>(schema: Schema, request: Request): z.output<Schema> {
  const parsed = schema.safeParse(request.body ?? {});
  if (!parsed.success) throw fieldErrors(parsed.error);
  return parsed.data;
}

/** Asks about one key, by a program on one device. */
export type Question<Body> = { key: KeyFacts; body: Body; deviceId: string | null; actor: string };

/**
 * How a question about a licence is handled: the body is read, the key identified, limits are kept to, and the attempt is
 * written down with its outcome.
 *
 * @param deviceOf the device in a body
 * @param answer answers, or throws the problem that is the answer
 * @param refused answers in another way than by the problem
 */
export function questions(licensing: Licensing) {
  const notedTooMany = new LRUCache<string, true>({ max: 10_000, ttl: 60_000 });

  /** Of what is refused as too much only the first in a minute: otherwise a loop would fill the disk. */
  function isWorthNoting({ code }: ProblemError, { id }: KeyFacts): boolean {
    if (code !== 'too_many_requests') return true;
    if (notedTooMany.has(id)) return false;
    notedTooMany.set(id, true);
    return true;
  }

  return function question<Schema extends z.ZodType<{ key?: string | undefined }>>(
    action: Action,
    schema: Schema,
    deviceOf: (body: z.output<Schema>) => string | undefined,
    answer: (question: Question<z.output<Schema>>) => Promise<object>,
    refused?: (problem: Problem, key: KeyFacts | null) => object,
  ): RequestHandler[] {
    const handler: RequestHandler = async (request, response) => {
      const body = readBody(schema, request);
      const deviceId = deviceOf(body) ?? null;
      let key: KeyFacts | null = null;
      try {
        key = await licensing.holders.identify(request, body.key, await licensing.mode());
        await licensing.limits.spend(key, deviceId);
        const answered = await answer({ key, body, deviceId, actor: 'licence_holder' });
        // Signs of life that are as they should be come every few minutes from every seat.
        if (action !== 'heartbeat') await note(licensing, request, action, key, deviceId, 'ok');
        response.json(answered);
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error;
        const problem = error.toProblem(response.locals.requestId);
        if (key && isWorthNoting(error, key))
          await note(licensing, request, action, key, deviceId, error.code);
        // Ours, or too much of it: that says nothing of the licence.
        if (!refused || problem.status >= 500 || problem.status === 429 || problem.status === 400)
          throw error;
        response.locals.code = problem.code;
        response.json(refused(problem, key));
      }
    };
    return [...jsonBody, handler];
  };
}

/** Writes down what was asked about a key, and the answer. */
export async function note(
  { keystore, log }: Licensing,
  request: Request,
  action: Action | 'trial',
  key: KeyFacts,
  deviceId: string | null,
  outcome: string,
): Promise<void> {
  const address = request.ip ? addressGroup(request.ip) : null;
  log.debug({ key: key.id, action, device: deviceId, outcome }, 'Licence question');
  await keystore
    .noteLicenceAttempt({ keyId: key.id, action, deviceId, outcome, address })
    .catch((error) =>
      log.error({ err: error, key: key.id, action, outcome }, 'A licence question could not be written down'),
    );
}
