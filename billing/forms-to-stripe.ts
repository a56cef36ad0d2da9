import type { RequestHandler } from 'express';
import helmet from 'helmet';
import type { Config } from '../shared/config.ts';
import { DIRECTIVES } from '../shared/security-headers.ts';

/** Lets the forms of one page lead to Stripe: browsers hold the redirects that answer a form to its policy too. */
export function allowFormsToStripe({ stripe }: Pick<Config, 'stripe'>): RequestHandler {
  const stripePages = stripe?.apiBase ? new URL(stripe.apiBase).origin : 'https:';
  return helmet.contentSecurityPolicy({
    useDefaults: false,
    directives: { ...DIRECTIVES, 'form-action': ["'self'", stripePages] },
  });
}
