// The screen of the server's health: standbys, slots, vacuum on the targets, old snapshots, archive, and beside each the limit
// that a run has for it.

import { el, fragment, table } from './dom.js';
import { bytes, count, seconds, span, time, value } from './format.js';

export function title()
{
	return 'Health';
}

// A limit and where it stands: a meter where both are numbers, always a text.
function limitRow(l)
{
	const now = numeric(l.now);
	const limit = numeric(l.limit);
	const load = now !== null && limit ? now / limit : null;

	return [
		load === null ? null : el('meter', { min: 0, max: 1, low: 0.7, high: 0.9999, optimum: 0, value: Math.min(load, 1),
			'aria-label': `${l.setting} of run ${l.run}`, 'aria-valuetext': Math.round(load * 100) + ' % of the limit' }),
		el('span', { class: load !== null && load >= 1 ? 'bad-text' : load !== null && load >= 0.7 ? 'warn-text' : 'quiet' },
			load === null ? '' : Math.round(load * 100) + ' %'),
	];
}

// A measure as a number: bytes, files and ages are numbers, a lag is an interval.
function numeric(v)
{
	if (v === null || v === undefined)
		return null;
	if (typeof v === 'number')
		return v;
	if (/^-?\d+(\.\d+)?$/.test(v))
		return Number(v);
	return /^\d+:\d\d:\d\d|day/.test(v) ? seconds(v) : null;
}

// How a column is written, by what its name says of its unit.
function written(name, v, now)
{
	if (v === null || v === undefined)
		return '–';
	if (/(bytes|retained|size|lag_bytes|_wal)$/.test(name) && typeof v === 'number')
		return bytes(v);
	if (/(lag|age|duration|for)$/.test(name) && typeof v === 'string' && numeric(v) !== null)
		return span(numeric(v));
	if (/(_at|_start|since|_time|last_.*vacuum|last_.*analyze)$/.test(name) && typeof v === 'string')
		return time(v, now);
	if (typeof v === 'boolean')
		return v ? 'yes' : 'no';
	return typeof v === 'number' ? count(v) : value(v);
}

// The limits of runs that are about the settings named, as a line under the table.
function limitsFor(data, names)
{
	const rows = (data.limits || []).filter(l => names.includes(l.setting));

	return rows.length === 0 ? el('p', { class: 'quiet' }, `No active run has a limit for it (${names.join(', ')}).`)
		: table({
			caption: 'Limits: ' + names.join(', '), rows, key: l => `limit-${l.run}-${l.setting}`,
			columns: [
				{ label: 'Run', head: true, cell: l => el('a', { href: '/runs/' + l.run }, `#${l.run} ${l.name || ''}`) },
				{ label: 'Setting', cell: l => el('span', { class: 'mono' }, l.setting) },
				{ label: 'Now', num: true, cell: l => el('span', { class: 'now' }, written(unit(l.setting), l.now, data.now)) },
				{ label: 'Limit', num: true, cell: l => written(unit(l.setting), l.limit, data.now) },
				{ label: 'Load', class: 'progress-cell', cell: limitRow },
			],
		});
}

function unit(setting)
{
	return /bytes|retained|growth/.test(setting) ? 'bytes' : /lag/.test(setting) ? 'lag' : setting;
}

// A table of whatever columns the rows have.
function anything(caption, rows, now, empty)
{
	const names = rows.length > 0 ? Object.keys(rows[0]) : [];

	return table({
		caption, rows, key: row => value(names.slice(0, 2).map(name => row[name])), empty,
		columns: names.map((name, i) => ({
			label: name.replace(/_/g, ' '), head: i === 0, num: typeof (rows.find(row => row[name] !== null) || {})[name] === 'number',
			cell: row => el('span', { class: i === 0 ? null : 'now' }, written(name, row[name], now)),
		})),
	});
}

const PARTS = [
	['standbys', 'Standbys', 'No standby is connected.', ['max_replica_lag', 'max_replica_lag_bytes']],
	['slots', 'Replication slots', 'There is no replication slot.', ['max_slot_retained']],
	['vacuum', 'Vacuum on the targets', 'No active run has a target.', ['max_dead_rows', 'pause_for_maintenance', 'max_growth']],
	['snapshots', 'Old snapshots', 'No session holds an old snapshot.', ['max_xmin_age', 'max_active_sessions']],
	['archive', 'WAL archive', 'Nothing is archived: archive_mode is off.', ['max_archive_backlog']],
];

export function view(data)
{
	return fragment(
		el('div', { class: 'head' }, el('h1', null, 'Health')),
		el('p', { class: 'under' }, 'What can hold a run, and how near each is to the limit that a run has for it.'),
		PARTS.map(([name, heading, empty, settings]) => el('section', { 'data-key': name, 'aria-labelledby': 'h-' + name },
			el('h2', { id: 'h-' + name }, heading),
			anything(heading, [data[name] || []].flat(), data.now, empty),
			limitsFor(data, settings))));
}
