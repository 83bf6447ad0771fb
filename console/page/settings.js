// Settings: those in force of a run, each changed in a dialog of its own; and the pieces with which the form of a start gives some.
//
// A setting: { name, type, default, min, max, options, description, value, source, live }, as backfill_settings and the run have it.

import { act, ask, readOnly, sayAnswer } from './act.js';
import { el, table } from './dom.js';
import { value } from './format.js';

// What a value of that type looks like, for the field's help.
const LOOKS = {
	interval: 'An interval with a unit, such as 250ms, 5 min or 2 hours; or off.',
	rate: 'An amount, "per", and an interval: 3000 per 5 min, 20MB per second; a number alone is per second.',
	bytes: 'A size: 64MB, 5GB; a number alone is bytes.',
	growth: 'A size (5GB), or a share (20 %).',
	sql: 'One SQL statement.',
	key: 'A value of the key, or a JSON array of values for its first columns.',
	parameters: 'A JSON object of names and values: {"work_mem": "256MB"}.',
	windows: 'A JSON array of windows.',
	weights: 'A JSON object of values and weights.',
	columns: 'A column, or a JSON array of columns.',
	expression: 'A column, or the expression with which the index begins.',
};

// "1 to 1024", "at least 1", or the words that are allowed.
export function limits(setting)
{
	const { min, max } = setting;
	const far = max === '9223372036854775807' || max === '2147483647';

	if (setting.options)
		return setting.options.join(', ');
	if (min !== null && min !== undefined && max !== null && max !== undefined)
		return far ? `at least ${min}` : `${min} to ${max}`;
	return '';
}

// The field for a value of the setting.  `current`: what it is now, or undefined.
export function field(setting, id, current)
{
	const text = current === undefined || current === null ? '' : value(current);
	const props = { id, name: 'value', 'aria-describedby': id + '-help', autocomplete: 'off' };

	if (setting.type === 'boolean' || setting.options)
		return el('select', props, (setting.options || ['true', 'false']).map(word =>
			el('option', { value: word, selected: word === text }, word)));
	if (['sql', 'windows', 'parameters', 'weights'].includes(setting.type))
		return el('textarea', { ...props, rows: 4, spellcheck: 'false', class: 'mono' }, text);
	return el('input', { ...props, value: text, spellcheck: 'false', inputmode: ['integer', 'number'].includes(setting.type) && !/auto/.test(setting.description || '') ? 'decimal' : null });
}

// Its help: what it is, what it may be.
export function help(setting, id)
{
	const bounds = limits(setting);

	return el('div', { class: 'help', id: id + '-help' },
		el('p', null, setting.description),
		el('p', { class: 'quiet' }, [bounds && `${setting.type}: ${bounds}`, !bounds && setting.type, LOOKS[setting.type], `Default: ${setting.default ?? 'none'}`]
			.filter(Boolean).map(s => s.replace(/\.$/, '')).join('. ') + '.'));
}

// What was typed, as JSON: numbers, booleans, objects and arrays as such, the rest as a text.
export function parse(setting, text)
{
	text = text.trim();
	if (setting.type === 'boolean')
		return text === 'true';
	if (['integer', 'number'].includes(setting.type) && /^-?\d+(\.\d+)?$/.test(text) && text.length < 16)
		return Number(text);
	if (/^[[{]/.test(text) && !['sql', 'expression'].includes(setting.type))
		return JSON.parse(text);
	return text;
}

// The dialog that changes one setting of a run.
function change(run, setting)
{
	const control = field(setting, 'setting-value', setting.value ?? undefined);
	const out = el('input', { type: 'checkbox', id: 'setting-out', name: 'out', onchange: () => { control.disabled = out.checked; } });

	control.setAttribute('autofocus', '');
	return ask({
		title: `Change ${setting.name} of run ${run.id}`,
		body: el('div', { class: 'form' },
			el('label', { for: 'setting-value' }, setting.name), control, help(setting, 'setting-value'),
			el('div', { class: 'check' }, out, el('label', { for: 'setting-out' }, 'Take it out: the preset, the default or the definition holds')),
			el('p', { class: 'says' }, 'The run goes on with it from its next batch. It is noted in the events, with your name.')),
		confirm: 'Change',
		run: async () =>
		{
			let wanted;

			try
			{
				wanted = out.checked ? null : parse(setting, control.value);
			}
			catch (error)
			{
				throw new Error('That is not JSON: ' + error.message);
			}
			sayAnswer(await act('alter', { id: run.id, settings: JSON.stringify({ [setting.name]: wanted }) }),
				`${setting.name} is ${wanted === null ? 'taken out' : value(wanted)} from the next batch on.`);
		},
	});
}

// Those in force: the ones that somebody has set first, all of them on demand.
export function settingsInForce(data, context)
{
	const all = data.settings || [];
	const given = all.filter(s => s.source && s.source !== 'default');
	const everything = !!context.memory.allSettings;
	const rows = everything ? all : given;
	// Who may do nothing with the run may not change it, either.
	const can = !readOnly() && Object.keys(data.may || {}).length > 0;

	return el('section', { 'data-key': 'settings', 'aria-labelledby': 'h-settings' },
		el('div', { class: 'head' },
			el('h2', { id: 'h-settings' }, 'Settings in force'),
			el('button', {
				class: 'link', 'aria-pressed': String(everything), 'data-action': 'all-settings',
				onclick: () => { context.memory.allSettings = !everything; context.draw(); },
			}, everything ? 'Only those that are given' : `All ${all.length}`)),
		table({
			caption: 'Settings in force', rows, key: s => 'setting-' + s.name, empty: 'None is given: the defaults hold.',
			columns: [
				{ label: 'Setting', head: true, cell: s => el('span', { class: 'mono' }, s.name) },
				{ label: 'Value', cell: s => el('span', { class: 'mono value' }, s.value === null || s.value === undefined ? 'none' : value(s.value)) },
				{ label: 'From', cell: s => el('span', { class: 'quiet' }, s.source || 'default') },
				{ label: 'Limits', phone: false, cell: s => el('span', { class: 'quiet' }, limits(s)) },
				{ label: 'What it is', wide: true, cell: s => el('span', { class: 'quiet' }, s.description) },
				...can ? [{ label: 'Change', cell: s => s.live === false ? el('span', { class: 'quiet' }, 'fixed')
					: el('button', { class: 'small', 'data-setting': s.name, 'aria-label': 'Change ' + s.name, onclick: () => change(data.run, s) }, 'Change…') }] : [],
			],
		}));
}

// --- For the form of a start ---

// What a preset is for, in the words of the reference.
const PRESETS = {
	polite: 'At work for a tenth of the time at most, in batches of about 1 ms: the server is busy, and the run has time.',
	balanced: 'Batches of about 250 ms that give way to others: what holds without a preset.',
	fast: 'Batches of about 1 s without a rest: for hours in which nobody else matters.',
};

// The part of a form in which settings are given by name.  `presets`: their names.  Returns the element and a function that collects what was given.
export function chooser(all, presets)
{
	const given = new Map();		// name -> control
	const list = el('div', { class: 'chosen' });
	const names = el('select', { id: 'add-setting', 'aria-label': 'A setting to give', onchange: () => names.value && add(names.value) },
		el('option', { value: '' }, 'Give another setting…'), all.filter(s => s.name !== 'preset').map(s => el('option', { value: s.name }, s.name)));
	const means = el('p', { class: 'help', id: 'preset-help' });
	const preset = el('select', { id: 'preset', 'aria-describedby': 'preset-help', onchange: explain },
		el('option', { value: '' }, 'as defined'), presets.map(name => el('option', { value: name }, name)));

	function explain()
	{
		means.textContent = preset.value === '' ? 'What the definition says, or the defaults.' : PRESETS[preset.value] || '';
	}

	function add(name)
	{
		const setting = all.find(s => s.name === name);
		const id = 'given-' + name;

		names.value = '';
		if (given.has(name))
		{
			given.get(name).focus();
			return;
		}
		const control = field(setting, id, setting.value ?? setting.default ?? undefined);
		const box = el('div', { class: 'field' },
			el('label', { for: id }, name),
			el('div', { class: 'row' }, control, el('button', {
				type: 'button', class: 'small', 'aria-label': 'Do not give ' + name,
				onclick: () => { given.delete(name); box.remove(); names.focus(); },
			}, 'Remove')),
			help(setting, id));

		control.removeAttribute('name');
		if (control.value === 'none')
			control.value = '';
		given.set(name, control);
		list.append(box);
		control.focus();
	}

	function collect()
	{
		const settings = {};

		if (preset.value !== '')
			settings.preset = preset.value;
		for (const [name, control] of given)
			settings[name] = parse(all.find(s => s.name === name), control.value);
		return settings;
	}

	explain();
	return {
		collect,
		element: el('fieldset', null, el('legend', null, 'Settings'),
			el('div', { class: 'field' }, el('label', { for: 'preset' }, 'Preset'), preset, means),
			list, el('div', { class: 'field' }, el('label', { for: 'add-setting' }, 'More'), names)),
	};
}
