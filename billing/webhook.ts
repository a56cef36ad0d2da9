import express, { type Router } from 'express';
import { onlyBy } from '../shared/methods.ts';
import { ProblemError } from '../shared/problems.ts';
import type { Billing } from './context.ts';
import { readSignedEvent } from './stripe-webhook.ts';

/** Largest webhook body taken. Stripe's events are a few kilobytes; the largest seen are well below this. */
const BODY_LIMIT = '512kb';

/** The addresses Stripe may deliver to. */
export const WEBHOOK_PATHS = ['/billing/webhook', '/stripe/webhook'];

/**
 * Receives Stripe's events: signature over the raw body, mode, then the inbox; the 200 goes out only once the event is
 * committed there. The work itself comes after the answer.
 */
export function webhookRoutes(billing: Billing): Router {
  const { keystore, log, metrics, mode, webhookSecret, worker } = billing;
  const router = express.Router();
  router.post(
    WEBHOOK_PATHS,
    express.raw({ type: () => true, limit: BODY_LIMIT }),
    async (request, response) => {
      if (webhookSecret === null) {
        log.error('A webhook came in, but STRIPE_WEBHOOK_SECRET is unset: nothing can be trusted without it');
        throw new ProblemError('webhook_not_configured');
      }
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const event = readSignedEvent(body, request.get('stripe-signature'), webhookSecret);
      if (event.mode !== mode) {
        throw new ProblemError(
          'wrong_mode_event',
          `This is an event in ${event.mode} mode, and this server is in ${mode} mode.`,
        );
      }
      const { requestId } = response.locals as { requestId: string };
      const outcome = await keystore.receiveEvent({ ...event, requestId });
      response.json({ received: true, duplicate: outcome === 'duplicate' });
      metrics?.eventReceived(event.type, outcome);
      if (outcome === 'duplicate') return;
      const { object } = event;
      if (event.outcome !== null) {
        log.info(
          { request_id: requestId, events: [event.id], type: event.type, outcome: event.outcome },
          'Event kept: nothing to do',
        );
        return;
      }
      log.debug({ request_id: requestId, events: [event.id], type: event.type }, 'Event received');
      worker.wake(object?.kind === 'session' ? { eventId: event.id, sessionId: object.id } : undefined);
    },
  );
  router.all(WEBHOOK_PATHS, onlyBy('POST'));
  return router;
}
