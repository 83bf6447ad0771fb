// The fields for the parameters that a definition declares: types, required ones, options, defaults.
//
// A parameter: { name, type, required, options, default, description }.

import { el } from './dom.js';
import { value } from './format.js';

const NUMBERS = /^(smallint|integer|bigint|int[248]?|numeric|decimal|real|double precision|float[48]?)(\(.*\))?$/;
const TEXTS = /^(json|jsonb|xml)$/;

function isArray(p)
{
	return p.type.endsWith('[]');
}

// What may be written, for the field's help.
function looks(p)
{
	return isArray(p) ? 'A JSON array, or {a,b}.'
		: /^timestamp/.test(p.type) ? 'A time with its zone, or now.'
		: p.type === 'interval' ? 'With a unit: 5 min.'
		: TEXTS.test(p.type) ? 'JSON.' : '';
}

function control(p, id)
{
	const props = {
		id, required: p.required && (p.default === null || p.default === undefined), 'aria-describedby': id + '-help', autocomplete: 'off', spellcheck: 'false', 'data-parameter': p.name,
	};
	const given = p.default === null || p.default === undefined ? '' : value(p.default);

	if (p.options)
		return el('select', props, p.required && given !== '' ? null : el('option', { value: '' }, p.required ? 'Choose…' : '(none)'),
			p.options.map(option => el('option', { value: JSON.stringify(option), selected: value(option) === given }, value(option))));
	if (p.type === 'boolean' || p.type === 'bool')
		return el('select', props, p.required && given !== '' ? null : el('option', { value: '' }, p.required ? 'Choose…' : '(none)'),
			['true', 'false'].map(word => el('option', { value: word, selected: word === given }, word)));
	if (TEXTS.test(p.type))
		return el('textarea', { ...props, rows: 3, class: 'mono' }, given);
	if (p.type === 'date')
		return el('input', { ...props, type: /^(\d{4}-\d\d-\d\d)?$/.test(given) ? 'date' : 'text', value: given });
	return el('input', { ...props, value: given, inputmode: NUMBERS.test(p.type) ? 'decimal' : null });
}

// The value of a field as JSON, or undefined for none.
function read(p, field)
{
	const text = field.value;

	if (text === '' && !(p.required && /^(text|character|varchar|citext)/.test(p.type)))
		return undefined;
	if (p.options)
		return JSON.parse(text);
	if (p.type === 'boolean' || p.type === 'bool')
		return text === 'true';
	if (TEXTS.test(p.type) || isArray(p) && text.trim().startsWith('['))
	{
		try
		{
			return JSON.parse(text);
		}
		catch (error)
		{
			throw new Error(`${p.name}: that is not JSON (${error.message}).`);
		}
	}
	// What has more digits than a number of JavaScript bears goes as a text: PostgreSQL reads it.
	if (NUMBERS.test(p.type) && /^-?\d+(\.\d+)?$/.test(text.trim()) && text.length < 16)
		return Number(text);
	return text;
}

// The fieldset, or null if there are no parameters; and a function that collects the values.
export function parameterFields(parameters)
{
	const fields = parameters.map((p, i) => ({ p, field: control(p, 'parameter-' + i) }));

	return {
		element: parameters.length === 0 ? null : el('fieldset', null, el('legend', null, 'Parameters'),
			fields.map(({ p, field }) => el('div', { class: 'field' },
				el('label', { for: field.id }, p.name, p.required ? el('span', { class: 'required' }, ' required') : null),
				field,
				el('p', { class: 'help', id: field.id + '-help' },
					[p.description, p.type + (p.options ? ', one of these' : ''), looks(p)].filter(Boolean).map(s => String(s).replace(/\.$/, '')).join('. ') + '.')))),
		collect()
		{
			const values = {};

			for (const { p, field } of fields)
			{
				const v = read(p, field);

				if (v !== undefined)
					values[p.name] = v;
			}
			return values;
		},
	};
}
