import type { Request, Response } from 'express';
import type { z } from 'zod';
import { ProblemError } from '../../shared/problems.ts';
import { sendPage } from '../pages.ts';
import type { Operator } from './sessions.ts';

/** Who is signed in, on a route that lets nobody else in. */
export function operatorOf(response: Response): Operator {
  return response.locals.operator as Operator;
}

/** What the audit log is to say of what the operator does: who, and from where. */
export function byOperator(request: Request, response: Response): { actor: string; address?: string } {
  return { actor: `console:${operatorOf(response).name}`, ...(request.ip && { address: request.ip }) };
}

/** Answers with a page of the console. */
export function sendConsolePage(response: Response, view: string, data: object): void {
  const { stops = [] } = response.locals;
  sendPage(response, `console/${view}`, { operator: operatorOf(response), stops, ...data });
}

/** A moment in a table, in UTC: `2026-11-29 09:30`. */
export function shortTime(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 16).replace('T', ' ');
}

/** A field of an address's query: the first value, without blanks around it; `undefined` when empty. */
export function queryText(request: Request, name: string): string | undefined {
  const value = request.query[name];
  return typeof value === 'string' && value.trim() !== '' ? value.trim().slice(0, 200) : undefined;
}

/** An address of this console with a query; what is not set is left out. */
export function consoleUrl(path: string, query: Record<string, string | undefined>): string {
  const set = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return set.length === 0 ? path : `${path}?${new URLSearchParams(set)}`;
}

/** Where a page of a list begins: after the one of this moment and id. */
export type PageCursor = { at: number; id: string };

/**
 * Where the page of a list begins that an address asks for: after the one of this moment and id. `undefined`: at the newest.
 *
 * @throws ProblemError `invalid_request`
 */
export function pageCursor(request: Request): PageCursor | undefined {
  const text = queryText(request, 'before');
  if (text === undefined) return undefined;
  const [, at, id] = /^(\d{1,15})\.(.{1,255})$/.exec(text) ?? [];
  if (!at || !id)
    throw new ProblemError('invalid_request', 'before is not where a page of this list begins.');
  return { at: Number(at), id };
}

/** A form without its token, which was looked at before. @throws ProblemError `invalid_request` */
export function readForm<Schema extends z.ZodType>(schema: Schema, request: Request): z.output<Schema> {
  const { form_token: _token, ...fields } = (request.body ?? {}) as Record<string, unknown>;
  const input = schema.safeParse(fields);
  if (input.success) return input.data;
  const [issue] = input.error.issues;
  const field = String(issue?.path[0] ?? 'The form').replaceAll('_', ' ');
  throw new ProblemError(
    'invalid_request',
    `${field.charAt(0).toUpperCase()}${field.slice(1)} ${issue?.message}.`,
  );
}
