import { z } from 'zod';

/** Where a key stands in one of its windows. */
const limitSchema = z.object({
  name: z.string(),
  limit: z.number(),
  remaining: z.number(),
  reset_s: z.number(),
});

/** What would become of a request now, as JSON: what a gateway answers at `/why`. */
export const verdictSchema = z.object({
  admitted: z.boolean(),
  /** Of the problem it would be answered with; `null`: it would be admitted. */
  code: z.string().nullable(),
  status: z.number().nullable(),
  /** Why, in a sentence. */
  detail: z.string(),
  /** What the customer can do about it. */
  remedy: z.string().nullable(),
  retry_after_s: z.number().nullable(),
  /** The route it would take; `null`: none was asked about. */
  route: z.string().nullable(),
  /** When access ends by the passing of time alone, such as the end of a grace. ISO 8601. */
  access_until: z.string().nullable(),
  /** `null`: how its windows stand is not known. */
  limits: z.array(limitSchema).nullable(),
  quota: z
    .object({
      per: z.enum(['month', 'purchase']),
      limit: z.number(),
      used: z.number(),
      remaining: z.number(),
      resets_at: z.string().nullable(),
    })
    .nullable(),
});
export type Verdict = z.output<typeof verdictSchema>;

const ADDRESS = /^[0-9A-Fa-f:.]{2,45}$/;

/** What a gateway is asked at `/why`. Without a path the question is about the key itself, and no route's rules count. */
export const questionSchema = z.strictObject({
  key_id: z.string({ error: 'is the id of a key' }).regex(/^[0-9A-Za-z]{12}$/, 'is not the id of a key'),
  /** The client's address; any that the key may be used from when omitted. */
  address: z.string().regex(ADDRESS, 'is not an IP address').optional(),
  method: z
    .string()
    .regex(/^[A-Z-]{1,20}$/, 'is not a method')
    .optional(),
  host: z.string().max(300).optional(),
  path: z.string().startsWith('/', 'begins with a slash').max(2000).optional(),
});
export type WhyQuestion = z.output<typeof questionSchema>;
