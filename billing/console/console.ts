import express, { type RequestHandler, type Router } from 'express';
import { onlyBy, parsedBody } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import type { Billing } from '../context.ts';
import { accountPages } from './account.ts';
import { customerPages } from './customers.ts';
import { eventRoutes } from './events.ts';
import { keyActionRoutes } from './key-actions.ts';
import { keyRoutes } from './keys.ts';
import { overviewPages } from './overview.ts';
import { operatorOf } from './page.ts';
import { purchasePages } from './purchases.ts';
import { readinessPages } from './readiness.ts';
import { revenuePages } from './revenue.ts';
import { ConsoleSessions } from './sessions.ts';
import { signInRoutes } from './sign-in.ts';
import { whyPages } from './why.ts';

/**
 * `/console`: the operator's pages. There are none until a user was made (`npm run admin`), and none but the form to sign in
 * for whoever is not signed in.
 */
export function consoleRoutes(billing: Billing): Router {
  const router = express.Router();
  const pages = express.Router();
  const sessions = new ConsoleSessions(billing.config, billing.keystore);
  router.use('/console', pages);
  pages.use(
    whereThereAreUsers(billing),
    signInRoutes(billing, sessions),
    signedIn(sessions),
    salesStopped(billing),
    express.urlencoded({ extended: false, limit: '16kb' }),
    parsedBody,
    ownForms(sessions),
  );
  pages.post('/sign-out', async (request, response) => {
    await sessions.end(request, response);
    response.redirect(303, '/console/sign-in');
  });
  pages.all('/sign-out', onlyBy('POST'));
  pages.use(
    overviewPages(billing),
    keyRoutes(billing),
    keyActionRoutes(billing),
    customerPages(billing),
    purchasePages(billing),
    revenuePages(billing),
    eventRoutes(billing),
    whyPages(billing),
    readinessPages(billing),
    accountPages(billing),
  );
  return router;
}

function whereThereAreUsers({ keystore }: Billing): RequestHandler {
  return async (_request, response, next) => {
    if (!(await keystore.hasConsoleUsers()))
      throw new ProblemError('not_found', 'There is nothing at this address.');
    // Browsers tell the origin of a form only to whom they would tell its page; no address of the console is a secret.
    response.set('Referrer-Policy', 'same-origin');
    next();
  };
}

/** Lets nobody past who is not signed in. */
function signedIn(sessions: ConsoleSessions): RequestHandler {
  return async (request, response, next) => {
    const operator = await sessions.operator(request);
    if (!operator) {
      response.redirect(303, '/console/sign-in');
      return;
    }
    response.locals.operator = operator;
    next();
  };
}

/** Has every page say so while nobody can buy. */
function salesStopped(billing: Billing): RequestHandler {
  return (_request, response, next) => {
    response.locals.stops = billing.stopConditions?.stops ?? [];
    next();
  };
}

/** Lets no form past that another page sent. */
function ownForms(sessions: ConsoleSessions): RequestHandler {
  return (request, response, next) => {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      sessions.checkForm(request, operatorOf(response));
    next();
  };
}
