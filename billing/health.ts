import express, { type Router } from 'express';
import { instanceProof } from '../shared/instance-proof.ts';
import type { Billing } from './context.ts';

/** How long one look at the keystore answers for others, milliseconds: anyone may ask, and each look is a write. */
const CHECK_VALID_MS = 1000;

/**
 * `GET /health`: the keystore can be written; with a `challenge`, only that this is the installation that it should be. `GET
 * /ready`: the keystore can be written, with mode and inbox: a `failed` event waits for somebody to act. Both 503 when not.
 */
export function healthRoutes({ config, keystore, log, mode }: Billing): Router {
  const router = express.Router();
  let checkedAt = 0;
  let check: Promise<void> | undefined;
  const checkWritable = () => {
    if (!check || Date.now() - checkedAt > CHECK_VALID_MS) {
      checkedAt = Date.now();
      check = keystore.checkWritable();
      check.catch((error) => log.error({ err: error }, 'The keystore cannot be written'));
    }
    return check;
  };

  router.get('/health', async (request, response) => {
    const proof = instanceProof(request.query.challenge, {
      service: 'billing',
      publicUrl: config.publicBillingUrl,
      serverSecret: config.serverSecret,
    });
    if (proof !== undefined) {
      response.json({ proof });
      return;
    }
    await checkWritable();
    response.json({ status: 'ok', keystore: 'writable' });
  });
  router.get('/ready', async (_request, response) => {
    await checkWritable();
    response.json({ status: 'ready', mode, inbox: await keystore.inboxDepth() });
  });
  return router;
}
