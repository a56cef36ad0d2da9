/** The body of an error as Stripe answers it (https://docs.stripe.com/api/errors). */
export interface ErrorBody {
  type: 'api_error' | 'card_error' | 'idempotency_error' | 'invalid_request_error';
  message: string;
  code?: string;
  param?: string;
  decline_code?: string;
  charge?: string;
  [detail: string]: unknown;
}

/** An answer other than success: thrown anywhere below a route, turned into a response in one place. */
export class StripeError extends Error {
  readonly status: number;
  readonly body: ErrorBody;

  constructor(status: number, body: ErrorBody) {
    super(body.message);
    this.status = status;
    this.body = body.code
      ? { ...body, doc_url: `https://docs.stripe.com/error-codes/${body.code.replaceAll('_', '-')}` }
      : body;
  }
}

/** 400 `invalid_request_error`. `param` is the parameter in bracket notation. */
export function invalid(message: string, param?: string, code?: string): StripeError {
  return new StripeError(400, {
    type: 'invalid_request_error',
    message,
    ...(param === undefined ? {} : { param }),
    ...(code === undefined ? {} : { code }),
  });
}

/** `resource_missing`: 404 for an id in the path, 400 for an id given as a parameter. */
export function noSuch(noun: string, id: string, param: string, status: 400 | 404): StripeError {
  return new StripeError(status, {
    type: 'invalid_request_error',
    code: 'resource_missing',
    message: `No such ${noun}: '${id}'`,
    param,
  });
}

/** A parameter that Stripe has and the sandbox has not: refused, so that nobody takes silence for support. */
export function notInSandbox(param: string): StripeError {
  return invalid(`The sandbox does not support the parameter ${param}.`, param, 'sandbox_unsupported');
}

/** 402 `card_error`: the bank said no. `more` names what the attempt left behind. */
export function declined(
  declineCode: string,
  more: { charge?: string; payment_intent?: object } = {},
): StripeError {
  const { code, decline_code, message } = decline(declineCode);
  return new StripeError(402, { type: 'card_error', code, decline_code, message, ...more });
}

const declineMessages: Record<string, string> = {
  generic_decline: 'Your card was declined.',
  insufficient_funds: 'Your card has insufficient funds.',
  lost_card: 'Your card was declined.',
  stolen_card: 'Your card was declined.',
  expired_card: 'Your card has expired.',
  debit_not_authorized: 'The customer has notified their bank that this payment was unauthorized.',
};

/** Code and message of a declined charge (https://docs.stripe.com/declines/codes). */
export function decline(declineCode: string): { code: string; decline_code: string; message: string } {
  const code = declineCode === 'expired_card' ? 'expired_card' : 'card_declined';
  return {
    code,
    decline_code: declineCode,
    message: declineMessages[declineCode] ?? 'Your card was declined.',
  };
}
