import type { Request } from 'express';
import { ProblemError } from './problems.ts';

/** The key in a request's `X-API-Key` or `Authorization: Bearer`; `undefined`: none. @throws ProblemError when they differ */
export function presentedKey(request: Request): string | undefined {
  const [, bearer] = /^bearer[ \t]+(.*)$/i.exec(request.get('authorization') ?? '') ?? [];
  const found = new Set([request.get('x-api-key'), bearer].map((text) => text?.trim()).filter(Boolean));
  if (found.size > 1) throw new ProblemError('conflicting_credentials');
  return [...found][0];
}
