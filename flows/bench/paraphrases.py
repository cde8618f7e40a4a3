"""Texts that describe the renderer's styles, for testing retrieval: written before anything was trained or measured.

Conventions: what a listener might type; none is a training text (`pipeline.conditioning.phrases`), and none was changed
after a measurement. `NAMED` texts say what the genre is called, `DESCRIBED` ones mostly don't. `FIVE` are the styles of
the issue's bar.
"""

from collections.abc import Mapping

FIVE = ("pop", "rock", "electronic", "folk", "reggae")

NAMED: Mapping[str, tuple[str, ...]] = {
    "pop": (
        "An uplifting pop tune for a commercial",
        "Fresh modern pop with a piano hook",
        "Something poppy and happy",
        "Pop backing, light and shiny",
    ),
    "rock": (
        "Big, angry rock with guitars up front",
        "Energetic rock instrumental for a sports video",
        "A classic rock band in a rehearsal room",
        "Hard-driving indie rock",
    ),
    "ballad": (
        "A ballad for two lovers, piano only at first",
        "Moving, slow ballad with lush strings",
        "Backing for a sad ballad",
        "A power ballad that builds",
    ),
    "funk": (
        "Funk you can't sit still to",
        "Old funk with horns, like on a 1974 record",
        "Funky guitar and bass workout",
        "Greasy, slow funk",
    ),
    "electronic": (
        "Electronic dance music with a dark mood",
        "Cold minimal electronic sounds",
        "Euphoric electronica for a laser show",
        "Synth-heavy electro",
    ),
    "folk": (
        "Simple folk on acoustic guitar",
        "Folk music from the hills",
        "A warm folk arrangement with harmonica",
        "Indie folk for a rainy afternoon",
    ),
    "reggae": (
        "Classic reggae with a bubbling organ",
        "Lazy summer reggae",
        "Dub reggae, deep and spacious",
        "Reggae groove for the beach",
    ),
    "jazz": (
        "A jazz trio playing for dinner guests",
        "Cool jazz with saxophone",
        "Swing jazz from the forties",
        "Late-night jazz ballroom band",
    ),
    "bossa": (
        "Bossa nova for a quiet café",
        "Classic bossa with acoustic guitar",
        "Brazilian bossa nova, light as a feather",
        "Bossa lounge with flute and piano",
    ),
    "disco": (
        "Disco fever with strings",
        "A funky disco record from 1978",
        "Disco to fill the floor",
        "Nu-disco with a filtered groove",
    ),
    "metal": (
        "Heavy metal with galloping guitars",
        "Merciless metal",
        "Metal, dark and epic",
        "Doom-laden heavy metal riffing",
    ),
    "hip hop": (
        "A hip hop beat",
        "Lo-fi hip hop with mellow keys",
        "Hip-hop instrumental, nineties New York",
        "Dark hip hop with a heavy bass",
    ),
    "soul": (
        "Sixties soul with brass",
        "Deep soul, slow burning",
        "Uptempo soul number for dancing",
        "Classic soul with organ and strings",
    ),
    "country": (
        "Country music with fiddle and steel-string guitar",
        "Upbeat country for a barn dance",
        "A lonesome country song",
        "Country road trip",
    ),
    "waltz": (
        "A slow waltz",
        "Sentimental waltz with violin",
        "Country-house waltz for a ball",
        "Little waltz on a music box",
    ),
    "gospel": (
        "Joyful gospel with organ",
        "Slow gospel hymn",
        "Traditional black gospel",
        "A gospel band building to a climax",
    ),
    "salsa": (
        "Salsa with lots of brass",
        "Hot salsa for a dance class",
        "Old Cuban salsa and son",
        "Salsa piano and percussion",
    ),
    "blues": ("A slow blues in a bar", "Twelve-bar blues with guitar solos", "Rough electric blues", "Harmonica blues"),
    "house": (
        "Deep house with mellow chords",
        "Classic house piano",
        "Progressive house build-up",
        "House music all night long",
    ),
    "synthwave": (
        "Synthwave for a night drive",
        "Dreamy synthwave with a saxophone",
        "Retro eighties synthwave",
        "Dark synthwave",
    ),
    "punk": (
        "Fast punk with shouting guitars",
        "Pop punk for a skate video",
        "Angry punk from a squat",
        "Sloppy garage punk",
    ),
    "ambient pop": (
        "Dreamy ambient pop",
        "Ambient music with soft pads and a slow beat",
        "Ethereal dream pop",
        "Ambient, peaceful and wide",
    ),
}

DESCRIBED: Mapping[str, tuple[str, ...]] = {
    "pop": (
        "Shiny chart-topper with bouncy keys",
        "Music for a mainstream radio playlist",
        "Light, catchy single that everybody hums",
        "Teen idol anthem, polished and upbeat",
        "Contemporary hit with a big hook",
    ),
    "rock": (
        "Electric guitar riffs over heavy drumming",
        "Four friends playing loud in a garage",
        "Rebellious stadium music with crunchy amplifiers",
        "Straight-ahead rock for a long drive",
        "Gritty alternative band from the nineties",
    ),
    "ballad": (
        "Slow and heartfelt, piano with violins",
        "A gentle tune for the last dance at a wedding",
        "Tear-jerking love theme",
        "Quiet heartbreak number that swells into a big emotional finale",
        "Sad slow song with an orchestra behind it",
    ),
    "funk": (
        "Syncopated bass line, scratchy guitar and horns",
        "Seventies party groove, everything on the one",
        "Slapped bass and clavinet",
        "James Brown's band vamping",
        "Something really funky to strut to",
    ),
    "electronic": (
        "Synthesizers and sequencers, no acoustic instruments",
        "Music for a rave",
        "Programmed drums with buzzing leads",
        "Robotic computer-made dance track",
        "EDM banger for a festival main stage",
    ),
    "folk": (
        "Acoustic guitar and banjo by the fire",
        "An old village tune",
        "Homespun troubadour with nothing but wooden instruments",
        "Fiddle and squeezebox in a pub",
        "In Woody Guthrie's tradition",
    ),
    "reggae": (
        "Skanking guitar on the off-beat",
        "Laid-back Jamaican vibes",
        "Bob Marley's backing band",
        "Rimshots, heavy bass and a Caribbean sun",
        "Lee Perry at the mixing desk, full of echo",
    ),
    "jazz": (
        "Walking double bass, ride cymbal and tenor sax",
        "Late set in a smoky cellar club",
        "A swinging standard with improvised solos",
        "Bebop quartet",
        "Cool trumpet over brushed drums",
    ),
    "bossa": (
        "Nylon strings and a gentle Brazilian rhythm",
        "Jobim and Gilberto on a Rio beach",
        "Mellow samba for a cocktail lounge",
        "Ipanema at sunset",
        "Soft Latin guitar with a flute",
    ),
    "disco": (
        "Glitter ball, octave bass and sweeping strings",
        "Saturday night at Studio 54",
        "Seventies dancefloor in bell-bottoms",
        "Chic's scratchy guitar over four on the floor",
        "Donna Summer era party record",
    ),
    "metal": (
        "Brutal palm-muted riffs and double kick",
        "Headbanging thrash",
        "Aggressive down-tuned guitars",
        "Iron Maiden gallop",
        "Black-clad, furious, very heavy",
    ),
    "hip hop": (
        "Dusty drum loop for an MC",
        "Relaxed beats to study to",
        "Old-school breakbeat from the Bronx",
        "A rap instrumental",
        "Head-nodding beat with a deep sub",
    ),
    "soul": (
        "Motown groove with warm organ and tambourine",
        "Stax house band with tight horns",
        "Smooth sixties R&B",
        "In the spirit of Aretha Franklin and Otis Redding",
        "Velvety, yearning, straight from Memphis",
    ),
    "country": (
        "Nashville twang",
        "Boots, hats and a line dance",
        "Johnny Cash's boom-chicka rhythm",
        "Cowboy tune for a dusty highway",
        "Honky-tonk bar band with a banjo",
    ),
    "waltz": (
        "Three-quarter time for a ballroom",
        "One-two-three, one-two-three, with accordion",
        "Musette in a Paris café",
        "Couples turning under Viennese chandeliers",
        "An old-fashioned dance in triple metre",
    ),
    "gospel": (
        "Sunday service with a Hammond and clapping hands",
        "Spiritual praise music",
        "Church organ and rolling piano in six-eight",
        "Hallelujah, the congregation rises",
        "Devotional and grand, from a Baptist chapel",
    ),
    "salsa": (
        "Congas, piano montuno and blazing trumpets",
        "A hot night in Havana",
        "Clave and cowbell for Cuban dancers",
        "Tito Puente's orchestra",
        "Spicy tropical dance party",
    ),
    "blues": (
        "Twelve bars of heartache",
        "Muddy Waters in a Chicago bar",
        "Wailing harmonica over a lazy shuffle",
        "Bent strings and a broken heart from the Mississippi delta",
        "B.B. King's guitar crying",
    ),
    "house": (
        "Deep club groove with organ stabs and a kick on every beat",
        "Chicago warehouse, four in the morning",
        "Ibiza terrace DJ",
        "Soulful piano chords over a steady thump for dancing",
        "Warm minimal dance music that goes on all night",
    ),
    "synthwave": (
        "Neon eighties nostalgia",
        "Gated drums and analogue arpeggios",
        "Soundtrack of a retro-futuristic car chase",
        "Outrun on a VHS tape",
        "Kavinsky and Depeche Mode at midnight",
    ),
    "punk": (
        "Three chords as fast as possible",
        "Ramones and Green Day",
        "Snotty, rebellious, two minutes long",
        "Skate-park guitars at breakneck speed",
        "Mohawks and safety pins",
    ),
    "ambient pop": (
        "Weightless pads and distant chimes",
        "Ethereal shimmering haze",
        "Slow glacial textures to drift away to",
        "Cocteau Twins floating through the clouds",
        "Calm, spacious, half asleep",
    ),
}
