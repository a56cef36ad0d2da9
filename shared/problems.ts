/**
 * Every error answer of every room, in one table (RFC 9457). `code` is stable: clients may branch on it.
 * `remedy` is set where the person who reads it can do something.
 */
// biome-ignore format: a table, one code a line
const TABLE = {
  // The key (gateway)
  missing_key: [401, 'API key missing', 'Send your key as "X-API-Key: <key>" or "Authorization: Bearer <key>".'],
  invalid_key: [401, 'API key not valid', 'Check that the whole key was copied. If it is lost, ask the seller for a new one.'],
  wrong_mode: [401, 'Key of the other mode', 'Use a live key with the live API and a test key with the test API.'],
  revoked_key: [401, 'API key revoked', 'This key was switched off for good. Use your newer key, or contact the seller.'],
  expired_key: [401, 'API key expired', 'This key was issued for a limited time. Get a new one from the pricing page.'],
  conflicting_credentials: [400, 'Two different keys', 'Send one key, in one header.'],
  payment_past_due: [402, 'Payment past due', 'Update your payment method; access returns as soon as the payment succeeds.'],
  payment_required: [402, 'Payment required', 'Complete the open payment of your subscription; access starts as soon as it succeeds.'],
  payment_disputed: [402, 'Payment disputed', 'Access returns when the dispute is closed in the seller\'s favour or withdrawn. Withdraw it at your bank, or contact the seller.'],
  requests_used_up: [402, 'All requests used', 'Buy again on the pricing page to get a new key.'],
  subscription_paused: [402, 'Subscription paused', 'Resume your subscription to use this key again.'],
  subscription_ended: [402, 'Subscription ended', 'Subscribe again on the pricing page to get a new key.'],
  feature_required: [403, 'Not included in the plan', 'Change to a plan that includes it.'],
  suspended_by_seller: [403, 'Key suspended by the seller', 'Contact the seller. The same key works again as soon as they lift the suspension.'],
  address_not_allowed: [403, 'Address not allowed', 'Send the request from an address that the key is limited to, or ask the seller to allow yours.'],
  too_many_concurrent: [429, 'Too many requests at a time', 'Wait until one of your requests is answered, then send the next.'],
  rate_limited: [429, 'Rate limit exceeded', 'Wait for the time in Retry-After, or change to a plan with a higher limit.'],
  quota_exceeded: [429, 'Quota exceeded', 'Wait for the quota to renew, or change to a plan with a higher quota.'],
  too_many_bad_keys: [429, 'Too many wrong keys', 'Stop sending keys that are not valid and wait for the time in Retry-After.'],
  // The upstream (gateway)
  upstream_unreachable: [502, 'The API did not answer', 'Try again in a moment.'],
  upstream_timeout: [504, 'The API took too long', 'Try again in a moment.'],
  // Ours
  keystore_unavailable: [503, 'Temporarily unavailable', 'Your key is not the problem. Try again in a moment.'],
  limits_unavailable: [503, 'Temporarily unavailable', 'Your key is not the problem. Try again in a moment.'],
  overloaded: [503, 'Temporarily overloaded', 'Your key is not the problem. Try again after the time in Retry-After.'],
  stopping: [503, 'Restarting', 'Try again in a moment.'],
  plan_unavailable: [503, 'Plan not available', 'Your key is not the problem. The seller has to restore the plan.'],
  proxy_misconfigured: [500, 'Proxy not set up', 'Your key is not the problem. The seller has to set up the proxy in front of the API.'],
  internal_error: [500, 'Something went wrong here', 'Try again; if it stays, contact the seller and give the request id.'],
  // Any HTTP request
  invalid_request: [400, 'Request not valid', undefined],
  not_found: [404, 'Not found', undefined],
  method_not_allowed: [405, 'Method not allowed', undefined],
  request_timeout: [408, 'Request not received in time', undefined],
  expectation_failed: [417, 'Expectation cannot be met', undefined],
  headers_too_large: [431, 'Request headers too large', undefined],
  version_not_supported: [505, 'HTTP version not supported', undefined],
  upgrade_not_supported: [501, 'Protocol upgrade not supported', 'Use plain HTTP/1.1 requests.'],
  coding_not_supported: [501, 'Transfer coding not supported', 'Send the body as it is, or with Content-Encoding.'],
  unsupported_media_type: [415, 'Media type not supported', 'Send JSON (Content-Type: application/json) or a form.'],
  payload_too_large: [413, 'Body too large', undefined],
  too_many_requests: [429, 'Too many requests', 'Wait for the time in Retry-After.'],
  // Buying (billing)
  unknown_plan: [400, 'No such plan', undefined],
  wrong_mode_purchase: [400, 'Purchase of the other mode', "Buy at the seller's server for that mode, or leave the mode out."],
  plan_not_for_sale: [409, 'Plan not for sale', undefined],
  sales_stopped: [503, 'Not on sale right now', 'Nothing was charged. Try again later, or contact the seller.'],
  stripe_unavailable: [503, 'Stripe cannot be reached', 'Nothing was charged by this request. Try again in a moment.'],
  stripe_refused: [502, 'Stripe refused the request', 'Contact the seller.'],
  idempotency_conflict: [409, 'Idempotency-Key used before', 'Use a new Idempotency-Key when the request differs.'],
  purchase_not_found: [404, 'Purchase not found', 'Open the whole link that you were sent to after paying.'],
  payment_pending: [409, 'Payment not confirmed yet', 'Nothing to do: the key is ready as soon as the payment is confirmed.'],
  payment_failed: [402, 'Payment failed', 'Buy again with another payment method.'],
  purchase_canceled: [410, 'Checkout expired', 'Start again from the pricing page.'],
  reveal_revoked: [410, 'Key switched off', 'The key was switched off or replaced before it was claimed. Contact the seller.'],
  unknown_price: [409, 'Product not set up', 'You need not pay again: the seller has to finish the set-up of this product.'],
  trial_used: [402, 'Trial used before', 'The key is ready as soon as the subscription is paid. You need not buy again.'],
  already_claimed: [410, 'Key already shown', 'The key is shown once. If you lost it, contact the seller for a replacement.'],
  reveal_expired: [410, 'Key no longer available', 'The key was not claimed in time. Contact the seller for a new one.'],
  // Managing (billing)
  key_in_use: [409, 'Key already used', 'A key that was used is never shown again. Replace it on the manage page, or through recovery if it is lost.'],
  replace_too_late: [410, 'Too late to replace', 'An unused key can be replaced within 24 hours of being shown. Use recovery, or contact the seller.'],
  already_replaced: [409, 'Key replaced before', 'This key has a newer one already.'],
  no_portal: [409, 'Nothing to manage at Stripe', 'This key was not bought with a Stripe customer. Contact the seller.'],
  mail_not_configured: [404, 'No recovery by e-mail', 'Contact the seller: this server sends no e-mail.'],
  link_not_valid: [410, 'Link used or expired', 'Ask for a new link.'],
  // The console (billing)
  wrong_sign_in: [401, 'Name, password or code wrong', 'Check them and try again; wait for the next code if this one was used. Users are made with "npm run admin -- create <name>".'],
  // Licences (licensing)
  no_licence: [403, 'No licence in this plan', 'Change to a plan that works on devices.'],
  device_limit: [409, 'All devices used', 'Deactivate one of the devices in `devices`, or change to a plan with more.'],
  device_not_active: [409, 'Device not active', 'Activate this device again.'],
  no_trial: [403, 'No trial', 'Buy the plan on the pricing page.'],
  trial_already_used: [409, 'Trial used before', 'There is one trial for each person and device. Buy the plan on the pricing page.'],
  code_not_valid: [400, 'Code not valid', 'Type in the code as it is in the e-mail, on the device that asked for it.'],
  // Stripe's webhook (billing)
  webhook_not_configured: [503, 'Webhook not set up', 'Set STRIPE_WEBHOOK_SECRET to the signing secret of this endpoint.'],
  invalid_signature: [400, 'Signature not valid', 'Set STRIPE_WEBHOOK_SECRET to the signing secret of exactly this endpoint.'],
  stale_signature: [400, 'Signature too old', "Check the clock of this machine: Stripe's signatures are good for 300 seconds."],
  wrong_mode_event: [400, 'Event of the other mode', 'Register this endpoint in the mode of STRIPE_SECRET_KEY only.'],
} as const satisfies Record<string, readonly [status: number, title: string, remedy: string | undefined]>;

export type ProblemCode = keyof typeof TABLE;

/** The body of an `application/problem+json` answer. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ProblemCode;
  request_id?: string;
  remedy?: string;
  [extension: string]: unknown;
};

/** Every code with its HTTP status. */
export const PROBLEM_STATUSES: Readonly<Record<ProblemCode, number>> = Object.fromEntries(
  Object.entries(TABLE).map(([code, [status]]) => [code, status]),
) as Record<ProblemCode, number>;

/** The HTTP status that belongs to a code. */
export function problemStatus(code: ProblemCode): number {
  return TABLE[code][0];
}

/**
 * Builds the problem for a code.
 *
 * @param detail this occurrence in one sentence; the title when omitted
 * @param extensions further members, such as `request_id`, `errors` or a `remedy` more exact than the table's
 */
export function problem(
  code: ProblemCode,
  detail?: string,
  extensions: Record<string, unknown> = {},
): Problem {
  const [status, title, remedy] = TABLE[code];
  return {
    type: `urn:tollgate:problem:${code}`,
    title,
    status,
    detail: detail ?? `${title}.`,
    code,
    ...(remedy === undefined ? {} : { remedy }),
    ...extensions,
  };
}

/** An error that knows its answer. Thrown inside a room, turned into a response at its edge. */
export class ProblemError extends Error {
  readonly code: ProblemCode;
  readonly extensions: Record<string, unknown>;

  constructor(
    code: ProblemCode,
    detail?: string,
    extensions: Record<string, unknown> = {},
    options?: ErrorOptions,
  ) {
    super(detail ?? TABLE[code][1], options);
    this.name = 'ProblemError';
    this.code = code;
    this.extensions = extensions;
  }

  /** The problem to answer with. */
  toProblem(requestId?: string): Problem {
    return problem(this.code, this.message, {
      ...this.extensions,
      ...(requestId ? { request_id: requestId } : {}),
    });
  }
}
