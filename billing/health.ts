import express, { type Router } from 'express';
import type { Billing } from './context.ts';

/** How long one look at the keystore answers for others, milliseconds: anyone may ask, and each look is a write. */
const CHECK_VALID_MS = 1000;

/** `GET /health`: the keystore can be written. `GET /ready`: the same, with mode and inbox: a
 * `failed` event waits for somebody to act. Both 503 when not. */
export function healthRoutes({ keystore, log, mode }: Billing): Router {
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

  router.get('/health', async (_request, response) => {
    await checkWritable();
    response.json({ status: 'ok', keystore: 'writable' });
  });
  router.get('/ready', async (_request, response) => {
    await checkWritable();
    response.json({ status: 'ready', mode, inbox: await keystore.inboxDepth() });
  });
  return router;
}
