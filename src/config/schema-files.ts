/** The content of `schemas/`, by file name. */
import { z } from 'zod';
import { asyncApi } from '../../connectors/kafka/asyncapi.ts';
import { envelopeSchema } from '../change/envelope-schema.ts';
import { configJsonSchema } from './json-schema.ts';

export const schemaFiles = (): Readonly<Record<string, string>> => ({
  'waggle.schema.json': format(configJsonSchema()),
  'asyncapi.json': format(asyncApi()),
  'event.schema.json': format(z.toJSONSchema(envelopeSchema)),
});

const format = (schema: object): string => `${JSON.stringify(schema, null, 2)}\n`;
