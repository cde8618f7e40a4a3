"""Phrases that the joint space is trained on: what people call the renderer's styles, and what one hears in them.

Conventions: English, lower case, no singer, tempo or key; `GENRES` are names that fit "a ... song", `SOUNDS` stand
alone. The texts of the bench (`flows.bench.paraphrases`) are others.
"""

from collections.abc import Iterator, Mapping, Sequence

FRAMES = ("{}", "{} music", "a {} song", "an instrumental {} track", "a backing track in the style of {}")
"""What a genre's name stands in."""

GENRES: Mapping[str, tuple[str, ...]] = {
    "pop": ("pop", "modern pop", "chart pop", "mainstream pop", "teen pop", "commercial pop", "pop rock", "top 40"),
    "rock": ("rock", "guitar rock", "classic rock", "alternative rock", "indie rock", "rock and roll", "arena rock"),
    "ballad": ("ballad", "slow ballad", "love ballad", "piano ballad", "power ballad", "romantic", "sentimental"),
    "funk": ("funk", "funky soul", "funk rock", "jazz funk", "p-funk", "funky", "boogie"),
    "electronic": ("electronic", "synth pop", "dance", "techno", "trance", "electro", "electronica", "eurodance"),
    "folk": ("folk", "acoustic folk", "traditional", "singer-songwriter", "celtic folk", "indie folk", "unplugged"),
    "reggae": ("reggae", "dub reggae", "roots reggae", "dub", "ska", "dancehall", "rocksteady"),
    "jazz": ("jazz", "swing", "bebop", "hard bop", "cool jazz", "big band", "jazz combo"),
    "bossa": ("bossa nova", "latin jazz", "samba", "brazilian", "easy listening latin", "mpb"),
    "disco": ("disco", "dance pop", "nu-disco", "seventies disco", "euro disco", "philly soul disco"),
    "metal": ("metal", "heavy metal", "hard rock", "thrash metal", "death metal", "power metal", "metalcore"),
    "hip hop": ("hip hop", "boom bap", "lo-fi hip hop", "rap", "trip hop", "east coast hip hop", "chillhop"),
    "soul": ("soul", "rhythm and blues", "motown soul", "southern soul", "northern soul", "neo soul", "r&b"),
    "country": ("country", "americana", "country rock", "bluegrass", "honky-tonk", "western", "alternative country"),
    "waltz": ("waltz", "chanson", "folk waltz", "viennese waltz", "valse musette", "ballroom"),
    "gospel": ("gospel", "slow soul", "doo-wop", "christian", "worship", "spiritual"),
    "salsa": ("salsa", "latin pop", "son cubano", "mambo", "cha-cha", "afro-cuban", "latin dance"),
    "blues": ("blues", "electric blues", "chicago blues", "delta blues", "blues rock", "texas blues"),
    "house": ("house", "deep house", "club", "garage house", "french house", "tech house", "progressive house"),
    "synthwave": ("synthwave", "eighties synth pop", "retro electronic", "new wave", "darkwave", "retrowave"),
    "punk": ("punk", "pop punk", "punk rock", "hardcore punk", "skate punk", "garage punk"),
    "ambient pop": ("ambient pop", "dream pop", "downtempo", "ambient", "chillout", "shoegaze", "new age"),
}

SOUNDS: Mapping[str, tuple[str, ...]] = {
    "pop": (
        "bright piano, clean guitars and crisp drums", "a sing-along refrain for the radio", "a summer hit",
        "glossy studio production", "cheerful and easy to remember", "warm synths under a friendly melody",
        "Taylor Swift, Katy Perry, Ed Sheeran", "Michael Jackson and Madonna", "boy band",
        "music for an advertisement", "a cheerful melody with claps", "bubblegum", "eurovision",
        "a hit record for teenagers", "upbeat, fresh and young", "strong hook",
        "electric piano, acoustic guitar and a steady beat", "music to sing in the car", "bouncy and bright",
        "number one in the charts",
    ),
    "rock": (
        "distorted guitars and driving drums", "a loud electric band on stage",
        "overdriven power chords and a backbeat", "raw and energetic guitar music", "grunge from Seattle",
        "The Rolling Stones, AC/DC, Nirvana", "Led Zeppelin, Queen, Foo Fighters", "guitar solo",
        "drums, bass and two electric guitars", "a rehearsal in the cellar", "britpop", "Bruce Springsteen on tour",
        "stadium crowd", "marshall stack", "fuzz and feedback", "music for motorcycles", "determined and restless",
        "loud concert", "rebellion of youth", "rockabilly", "hammond organ behind crunchy chords",
    ),
    "ballad": (
        "grand piano and slow strings", "tender music about lost love", "candlelight and longing",
        "oboe and violin over soft chords", "an intimate confession that grows into an emotional climax",
        "weeping cello", "Celine Dion, Adele, Elton John", "slow dance", "a song about missing someone",
        "music for a wedding", "crying in the rain", "soft piano arpeggios", "lush orchestral strings",
        "wistful and tender", "rubato piano and cello", "heartbreak", "goodbye song", "schmaltzy",
        "gentle fretless bass under a string section", "sad film scene",
    ),
    "funk": (
        "slap bass, muted wah guitar and a brass section", "tight drums and a groove to dance to",
        "a horn riff and organ", "playful and groovy with saxophone", "Parliament, Sly Stone and Prince",
        "sixteenth-note guitar scratches", "George Clinton, Earth Wind & Fire, The Meters", "chicken-scratch guitar",
        "popping bass", "brass stabs and clavinet", "block party in 1975", "syncopation", "strutting",
        "New Orleans street groove", "blaxploitation film", "get up and dance", "greasy organ",
        "tight sixteenth hi-hats", "talk box", "Red Hot Chili Peppers",
    ),
    "electronic": (
        "synth bass, drum machine and saw leads", "futuristic club sounds", "pulsing synthesizer arpeggios",
        "hypnotic and euphoric dance music", "a trance anthem with sweeping pads",
        "Kraftwerk, Daft Punk, The Prodigy", "Deadmau5, Avicii, Tiesto", "computer music", "drum and bass", "dubstep",
        "synthesizer", "sequencer patterns", "laser show", "warehouse rave", "festival of DJs", "programmed beats",
        "robots", "303 acid bass", "electronic body music", "machine-made", "glitchy digital sounds",
        "supersaw chords and side-chain",
    ),
    "folk": (
        "strummed steel-string guitar with harmonica", "gentle and earthy acoustic instruments",
        "dulcimer, harp, recorder", "a campfire song", "an irish reel with fiddle", "Bob Dylan and Joan Baez",
        "rustic, nostalgic and homely", "Simon and Garfunkel, Joni Mitchell, Pete Seeger", "medieval market",
        "mandolin", "village fete", "scottish highlands", "fingerpicking", "wooden instruments", "sea shanty",
        "storytelling with one guitar", "mountain music", "tin whistle and bodhran", "coffeehouse", "countryside",
        "accordion and recorder", "Mumford and Sons", "barefoot in the grass",
    ),
    "reggae": (
        "one-drop drums, round bass and skank guitar", "relaxed island music", "organ bubble and melodica",
        "sunny and laid-back with trombone and steel drums", "Kingston sound system", "Peter Tosh and Burning Spear",
        "Jimmy Cliff, UB40, Toots and the Maytals", "rastafari", "ganja smoke", "tape echo and spring reverb",
        "offbeat chords", "island", "tropical beach", "deep bass line", "rim click", "steel pan", "caribbean",
        "dreadlocks", "lovers rock", "sound system clash", "mellow sunshine", "melodica of Augustus Pablo",
    ),
    "jazz": (
        "swing drums, upright bass and piano", "a saxophone solo over rich chords", "muted trumpet late at night",
        "elegant improvised music for a club", "vibraphone and jazz guitar",
        "Miles Davis, Duke Ellington, Ella Fitzgerald", "John Coltrane, Thelonious Monk, Charlie Parker",
        "New Orleans", "Louis Armstrong", "Frank Sinatra with a big band", "improvisation", "smoky bar",
        "cocktail piano", "double bass and brushes", "ride cymbal", "clarinet", "Blue Note records",
        "Harlem in the twenties", "complex harmonies", "a trio in a hotel lobby", "film noir", "scat",
    ),
    "bossa": (
        "nylon guitar, shaker and claves", "breezy brazilian music for the beach", "flute over soft latin drums",
        "intimate and sunlit", "Stan Getz, Chega de saudade", "lounge music with a latin touch",
        "Elis Regina, Caetano Veloso", "copacabana", "Brazil", "carnival in slow motion", "elevator music",
        "nylon-string guitar", "syncopated soft guitar", "elegant hotel bar by the sea", "saudade",
        "light percussion and alto saxophone", "caipirinha", "cool and gentle", "tropicalia", "latin lounge",
    ),
    "disco": (
        "disco strings, octave bass and open hi-hats", "a mirror ball and a packed dance floor",
        "glamorous seventies dance", "Bee Gees, ABBA, Gloria Gaynor", "muted guitar, tambourine and a steady kick",
        "joyful, sleek and danceable", "KC and the Sunshine Band, Village People, Sister Sledge", "platform shoes",
        "roller skating", "saturday night fever", "strings and horns to dance",
        "hi-hat on the off-beat, kick on every beat", "glitter", "New York nightclub 1979", "hustle",
        "funky bass in octaves", "Kool and the Gang", "Dua Lipa and Daft Punk's nineteen-seventies", "sequins",
        "ecstatic dance",
    ),
    "metal": (
        "heavily distorted guitars and double bass drums", "crushing and dark riffs",
        "Metallica, Slayer, Black Sabbath", "screaming lead guitar", "furious and epic wall of guitars",
        "low tuned chugging", "Judas Priest, Megadeth, Pantera, Slipknot", "power chords, palm mutes", "headbangers",
        "double kick", "demons and darkness", "viking battle", "brutal", "shredding", "doom",
        "distortion as thick as a wall", "black leather", "aggressive and angry", "growling", "grindcore", "mosh",
        "Rammstein", "evil riff",
    ),
    "hip hop": (
        "sampled drums, sub bass and dusty electric piano", "a laid-back beat to rap over",
        "nocturnal boom bap groove", "vinyl crackle and a jazzy loop", "Dr. Dre, A Tribe Called Quest, J Dilla",
        "urban street music", "Eminem, Nas, Wu-Tang Clan, Kanye West", "MC", "freestyle", "scratching turntables",
        "trap", "808", "graffiti", "ghetto blaster", "sampled loop", "head-nod", "beatmaker", "study beats",
        "lazy swing drums", "breakdance", "street corner", "Compton", "jazzy chords on a dusty sampler",
    ),
    "soul": (
        "drawbar organ, horn section and clean guitar", "warm and yearning rhythm and blues",
        "a groove from Detroit, 1965", "tambourine, strings and a saxophone solo", "Marvin Gaye and Stevie Wonder",
        "uplifting and soulful", "Sam Cooke, Al Green, The Supremes, The Temptations", "Amy Winehouse", "Detroit",
        "Memphis", "horns and organ", "heartfelt groove", "tambourine on two and four", "Muscle Shoals", "slow jam",
        "Ray Charles", "sixties girl group", "sweet strings", "passionate", "love and happiness",
        "James Jamerson bass",
    ),
    "country": (
        "steel-string guitar, fiddle and train-beat drums", "twangy guitar and honky-tonk piano", "a ranch in Texas",
        "open-hearted and homesick", "Dolly Parton, Willie Nelson, Hank Williams", "banjo rolls and harmonica",
        "Garth Brooks, Shania Twain, Kenny Rogers", "cowboy", "Nashville", "Texas", "pickup truck", "saddle",
        "prairie", "rodeo", "barn dance", "pedal steel", "two-step", "whiskey and regret", "square dance", "southern",
        "wide open plains", "telecaster twang", "Kentucky hills",
    ),
    "waltz": (
        "three beats to the bar with accordion and violin", "a graceful dance in three-four time", "Johann Strauss",
        "nostalgic and bittersweet parisian accordion", "music box, harp and clarinet, turning slowly",
        "ballroom dancing", "three-four time", "ballroom", "Vienna", "Edith Piaf and Jacques Brel", "accordion",
        "bal musette", "merry-go-round", "carousel", "minuet", "swaying", "couples dancing in a circle",
        "Shostakovich waltz number two", "the blue danube", "3/4", "Yann Tiersen", "melancholy paris", "oom-pah-pah",
    ),
    "gospel": (
        "church organ, piano and hand claps", "uplifting praise in a church", "slow triplets with hammond organ",
        "Mahalia Jackson", "devoted and grand", "a choir-less sunday service with tambourine", "church",
        "Kirk Franklin", "praise and worship", "amazing grace", "hymn", "preacher", "holy",
        "hammond organ with leslie", "baptist", "congregation", "heaven", "slow twelve-eight", "hand clapping",
        "oh happy day", "sunday morning", "jesus", "faith and glory", "prayer", "christmas mass",
    ),
    "salsa": (
        "congas, cowbell, trumpets and piano", "fiery latin dance music", "a festive cuban band with brass",
        "Celia Cruz and Buena Vista Social Club", "caribbean street party with trombones",
        "passionate and sunny rhythm", "Ruben Blades, Willie Colon, Marc Anthony", "Puerto Rico", "Havana",
        "conga drums", "timbales", "montuno", "merengue", "rumba", "bachata", "bongo", "latin brass", "tropical",
        "spicy", "hips", "clave", "Gloria Estefan", "spanish harlem", "maracas", "dance teacher counting",
    ),
    "blues": (
        "shuffle drums, harmonica and electric guitar", "gritty and lonesome guitar licks",
        "a twelve-bar with rock organ", "honky-tonk piano in a smoky bar",
        "John Lee Hooker, Eric Clapton, Howlin' Wolf", "woke up this morning, rolling",
        "Robert Johnson, Stevie Ray Vaughan, Etta James", "Mississippi", "slide guitar", "crossroads", "juke joint",
        "twelve-bar", "shuffle", "bent notes", "harp through an amplifier", "whiskey", "sorrow", "boogie piano",
        "Memphis Slim", "train whistle", "hard times", "dirty guitar tone", "Gary Moore", "feeling down",
    ),
    "house": (
        "four on the floor with house piano and organ", "deep, hypnotic club music with congas",
        "a dj set until sunrise", "warm pads, shaker and a rolling synth bass", "Frankie Knuckles and Larry Heard",
        "uplifting late-night dance", "Disclosure, Kerri Chandler, Inner City", "club", "Ibiza", "Chicago", "Detroit",
        "organ bass", "kick drum on every quarter", "disc jockey", "909 drum machine", "after hours", "piano stabs",
        "dance floor until dawn", "soulful deep groove", "filter sweep", "techno-house", "vocal chops", "minimal",
        "lounge bar groove",
    ),
    "synthwave": (
        "gated drum machine, analogue bass and polysynth", "neon lights and night drives",
        "eighties film score synths", "retro arpeggios with synth brass", "New Order, Duran Duran, John Carpenter",
        "cinematic, driving and nostalgic", "Tears for Fears, Gary Numan, The Midnight, Carpenter Brut", "1984",
        "Miami Vice", "Blade Runner", "Stranger Things", "arcade game", "analogue synthesizer", "gated reverb snare",
        "cassette", "retro-futurism", "neon", "sports car at night", "juno chords", "chrome", "Vangelis", "eighties",
        "italo",
    ),
    "punk": (
        "fast drums and buzzing overdriven guitars", "urgent, breathless and rebellious",
        "The Clash and the Sex Pistols", "noisy teenage energy in a basement", "loud, simple and fast guitar songs",
        "mosh pit", "The Offspring, Blink-182, Bad Religion, Dead Kennedys", "anarchy", "mohawk", "three chords",
        "garage", "riot", "do it yourself", "fast and loud", "teenagers", "skateboards", "snotty",
        "power chords at full speed", "CBGB", "squat", "distortion and shouting", "thrashy drums", "raw",
        "London 1977",
    ),
    "ambient pop": (
        "glass pads, vibraphone and soft synth bass", "floating, dreamy and serene",
        "sparse drums under a wash of sound", "relaxing atmosphere with harp and flute", "Brian Eno and Beach House",
        "quiet spacious soundscape", "Sigur Ros, Enya, Moby, Air, Massive Attack", "meditation", "yoga", "sleep",
        "clouds", "ocean waves", "atmospheric", "drone", "ethereal", "slow motion", "spa", "reverb", "underwater",
        "floating in space", "soft bells", "calm", "serenity", "northern lights", "trip through mist",
        "vibraphone and whistle", "chillwave",
    ),
}  # fmt: skip

INSTRUMENTS: Mapping[str, tuple[str, ...]] = {
    "accordion": ("squeezebox", "bandoneon", "concertina"),
    "acoustic guitar": ("nylon guitar", "steel-string guitar", "classical guitar", "strummed guitar", "fingerpicking"),
    "banjo": ("five-string banjo", "bluegrass banjo"),
    "bells": ("vibraphone", "glockenspiel", "music box", "celesta", "xylophone", "chimes"),
    "brass": ("trumpet", "trombone", "horns", "brass section", "french horn", "tuba"),
    "clavinet": ("clavichord", "funky clav", "harpsichord"),
    "distorted guitar": ("overdriven guitar", "heavy guitar", "guitar with distortion", "fuzz guitar", "power chords"),
    "drums": ("drum kit", "drum machine", "beat"),
    "dulcimer": ("hammered dulcimer", "zither"),
    "electric bass": ("bass guitar", "slap bass", "picked bass", "fretless bass", "finger bass"),
    "electric guitar": ("clean electric guitar", "jazz guitar", "muted guitar", "telecaster", "twangy guitar"),
    "electric piano": ("rhodes", "wurlitzer", "dusty keys"),
    "harmonica": ("mouth organ", "blues harp", "melodica"),
    "harp": ("concert harp", "plucked harp strings"),
    "organ": ("hammond organ", "church organ", "drawbar organ", "reed organ", "pipe organ"),
    "piano": ("grand piano", "upright piano", "honky-tonk piano", "keys"),
    "saxophone": ("alto saxophone", "tenor saxophone", "sax"),
    "steel drums": ("steel pan", "steelpan"),
    "strings": ("violin", "cello", "string section", "fiddle", "orchestra strings", "viola"),
    "synth bass": ("sub bass", "deep synth bass", "analogue bass", "bass synthesizer"),
    "synth lead": ("saw lead", "square lead", "lead synthesizer", "buzzing synth"),
    "synth pad": ("warm pad", "polysynth", "sweeping pads", "atmospheric synthesizer", "glass pad"),
    "upright bass": ("double bass", "contrabass", "walking bass", "acoustic bass"),
    "woodwinds": ("flute", "clarinet", "oboe", "recorder", "whistle", "bassoon"),
}
"""Other names of a family's instruments."""


def about_style(style: str, words: Sequence[str], moods: Sequence[str]) -> Iterator[str]:
    """Texts about a style; `words` and `moods` are the renderer's own for it, all there is for one unknown here."""
    genres = tuple(dict.fromkeys((*words, *GENRES.get(style, ()))))
    for genre in genres:
        yield from (frame.format(genre) for frame in FRAMES)
    for mood in moods:
        yield from (f"a {mood} {genre} song" for genre in genres[:3])
    for sound in SOUNDS.get(style, ()):
        yield sound
        yield f"{genres[0]}, {sound}"


def about_instrument(family: str) -> Iterator[str]:
    """Texts about one family of instruments (`pipeline.conditioning.families`)."""
    for name in (family, *INSTRUMENTS.get(family, ())):
        yield name
        yield f"a song with {name}"
        yield f"{name} solo"
