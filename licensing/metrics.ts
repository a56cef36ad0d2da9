import type { RequestHandler } from 'express';
import { Counter, type Registry } from 'prom-client';

const ACTIONS = [
  'activate',
  'refresh',
  'validate',
  'deactivate',
  'heartbeat',
  'devices',
  'features',
  'trial',
];

/** Counts what programs ask about licences, by what they ask and how it was answered. */
export function questionMetrics(registry: Registry): RequestHandler {
  const questions = new Counter({
    name: 'tollgate_licensing_questions_total',
    help: 'Questions about licences, by what was asked, and the problem code of the answer or ok.',
    labelNames: ['action', 'outcome'],
    registers: [registry],
  });
  return (request, response, next) => {
    response.once('close', () => {
      const action = request.originalUrl.split('?', 1)[0]?.split('/')[2] ?? '';
      const { code = 'ok' } = response.locals as { code?: string };
      questions.inc({ action: ACTIONS.includes(action) ? action : 'other', outcome: code });
    });
    next();
  };
}
